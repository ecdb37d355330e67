#include "trainer/checkpoint.h"

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "common/replace.h"
#include "data/safetensors.h"
#include "draft_models/dialects.h"

namespace aerie {
namespace {

using nlohmann::json;
constexpr int64_t kFormat = 1;

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
  return name;
}

/// The step of a checkpoint's directory; nothing for other names.
std::optional<int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with("step-")) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 5, end, step);
  if (error != std::errc() || rest != end) return std::nullopt;
  return step;
}

bool is_checkpoint(const fs::path& path) {
  return step_of(path) && fs::is_regular_file(path / "state.json");
}

/// By step: as text step-1000000 would come before step-999999.
std::vector<fs::path> checkpoints(const fs::path& run_dir) {
  std::vector<fs::path> found;
  if (!fs::is_directory(run_dir)) return found;
  for (const auto& entry : fs::directory_iterator(run_dir)) {
    if (!entry.is_symlink() && is_checkpoint(entry.path())) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(),
            [](const fs::path& a, const fs::path& b) { return step_of(a) < step_of(b); });
  return found;
}

/// A kill may have left a checkpoint that was being replaced under its other name.
void restore_checkpoints(const fs::path& run_dir) {
  if (!fs::is_directory(run_dir)) return;
  std::vector<fs::path> replaced;
  for (const auto& entry : fs::directory_iterator(run_dir)) {
    fs::path path = entry.path();
    if (path.extension() == ".old" && step_of(path.replace_extension())) replaced.push_back(path);
  }
  for (const fs::path& path : replaced) restore_replaced(path);
}

json to_json(const TrainState& s) {
  return {{"format", kFormat},
          {"step", s.step},
          {"updates", s.updates},
          {"tokens", s.tokens},
          {"supervised", s.supervised},
          {"skipped_steps", s.skipped_steps},
          {"seconds", s.seconds},
          {"metrics_position", s.metrics_position},
          {"seed", s.seed},
          {"packs_per_step", s.packs_per_step},
          {"cursor", s.cursor},
          {"best",
           {{"step", s.best.step},
            {"value", s.best.value},
            {"metric", s.best.metric},
            {"waited", s.best.waited}}},
          {"facts", s.facts}};
}

TrainState from_json(const json& j) {
  TrainState s;
  s.step = j.at("step");
  s.updates = j.at("updates");
  s.tokens = j.at("tokens");
  s.supervised = j.at("supervised");
  s.skipped_steps = j.at("skipped_steps");
  s.seconds = j.at("seconds");
  s.metrics_position = j.at("metrics_position");
  s.seed = j.at("seed");
  s.packs_per_step = j.value("packs_per_step", int64_t{0});
  s.cursor = j.at("cursor");
  s.best.step = j.at("best").at("step");
  s.best.value = j.at("best").at("value");
  s.best.metric = j.at("best").at("metric");
  s.best.waited = j.at("best").value("waited", int64_t{0});  // absent: written before eval.patience
  s.facts = j.at("facts").get<RunFacts>();
  return s;
}

DraftParams read_params(const fs::path& path, const std::string& prefix) {
  const SafetensorsFile file(path);
  DraftParams params;
  for (const std::string& name : file.names()) {
    if (!name.starts_with(prefix)) continue;
    params.tensors.emplace_back(name.substr(prefix.size()), file.tensor(name));
  }
  return params;
}

constexpr const char* kAverage = "average.safetensors";

void write_training(const fs::path& directory, const TrainingContent& content) {
  std::vector<std::pair<std::string, Tensor>> masters, moments;
  for (const auto& [name, tensor] : content.masters.tensors) {
    masters.emplace_back(name, tensor.detach());
  }
  if (!content.average.tensors.empty()) {
    write_safetensors(directory / kAverage, content.average.tensors);
  }
  for (const auto& [name, tensor] : content.moments.first.tensors) {
    moments.emplace_back("first." + name, tensor);
  }
  for (const auto& [name, tensor] : content.moments.second.tensors) {
    moments.emplace_back("second." + name, tensor);
  }
  write_safetensors(directory / "masters.safetensors", masters);
  write_safetensors(directory / "moments.safetensors", moments);
  write_file_atomic(directory / "config.yaml", content.config_yaml);
  write_file_atomic(directory / "state.json", state_text(content.state));
}

}  // namespace

fs::path save_checkpoint(const fs::path& run_dir, const CheckpointContent& content) {
  const DraftParams& weights = content.average.tensors.empty() ? content.masters : content.average;
  return save_checkpoint(
      run_dir,
      {content.state, content.masters, content.moments, content.config_yaml, content.average},
      [&](const fs::path& directory) {
        save_draft(directory / "draft", content.config, weights, content.vocab);
      });
}

fs::path save_checkpoint(const fs::path& run_dir, const TrainingContent& content,
                         const std::function<void(const fs::path&)>& write_model) {
  const fs::path place = run_dir / step_name(content.state.step);
  try {
    write_directory_atomic(place, [&](const fs::path& tmp) {
      write_model(tmp);
      write_training(tmp, content);
    });
  } catch (const std::exception& error) {
    fail(
        "checkpoint {} was not written; earlier ones are untouched and the run can go on from "
        "them: {}",
        place.string(), error.what());
  }
  replace_symlink(run_dir / "latest", place.filename().string());
  return place;
}

TrainState read_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "state.json";
  AERIE_CHECK(fs::is_regular_file(file),
              "{} is no checkpoint: it has no state.json. Give a step-* directory of a run, or its "
              "'latest'",
              checkpoint.string());
  return parse_state(read_file(file), file.string());
}

std::string state_text(const TrainState& state) { return to_json(state).dump(2) + "\n"; }

TrainState parse_state(const std::string& text, const std::string& origin) {
  try {
    const json content = json::parse(text);
    AERIE_CHECK(content.at("format") == kFormat,
                "{}: format {} is not this program's ({}); use the version that wrote it", origin,
                content.at("format").dump(), kFormat);
    return from_json(content);
  } catch (const json::exception& error) {
    fail("{} is damaged ({}); resume from another step-* directory of the run", origin,
         error.what());
  }
}

DraftParams read_masters(const fs::path& checkpoint) {
  return read_params(checkpoint / "masters.safetensors", "");
}

DraftParams read_result(const fs::path& checkpoint) {
  const fs::path average = checkpoint / kAverage;
  return fs::exists(average) ? read_params(average, "") : read_masters(checkpoint);
}

Moments read_moments(const fs::path& checkpoint) {
  const fs::path moments = checkpoint / "moments.safetensors";
  return {read_params(moments, "first."), read_params(moments, "second.")};
}

std::unique_ptr<DirectoryLock> hold_run(const fs::path& run_dir) {
  fs::create_directories(run_dir);
  std::unique_ptr<DirectoryLock> held = DirectoryLock::if_free(run_dir);
  AERIE_CHECK(held,
              "{}: another process trains there; wait for its end, or choose another output.dir",
              run_dir.string());
  return held;
}

std::optional<fs::path> resume_from(const fs::path& run_dir, const std::string& resume) {
  const std::optional<fs::path> latest = find_latest(run_dir);
  if (resume == "auto") return latest;
  if (resume != "never") return fs::path(resume);
  AERIE_CHECK(
      !latest,
      "--resume never, but {} has checkpoints of an earlier run: choose another output.dir, "
      "or remove that one",
      run_dir.string());
  return std::nullopt;
}

std::optional<fs::path> find_latest(const fs::path& run_dir) {
  restore_checkpoints(run_dir);
  const fs::path link = run_dir / "latest";
  std::error_code broken;
  const fs::path linked = fs::weakly_canonical(link, broken);
  if (!broken && fs::is_symlink(link) && is_checkpoint(linked)) return linked;
  const std::vector<fs::path> all = checkpoints(run_dir);
  if (all.empty()) return std::nullopt;
  return all.back();
}

void mark_best(const fs::path& run_dir, int64_t step) {
  replace_symlink(run_dir / "best", step_name(step));
}

void prune_checkpoints(const fs::path& run_dir, int64_t keep) {
  restore_checkpoints(run_dir);
  std::error_code none;
  const fs::path best = fs::weakly_canonical(run_dir / "best", none);
  const fs::path latest = fs::weakly_canonical(run_dir / "latest", none);
  std::vector<fs::path> all = checkpoints(run_dir);
  const size_t kept = static_cast<size_t>(std::max<int64_t>(1, keep));
  for (size_t i = 0; i + kept < all.size(); ++i) {
    const fs::path real = fs::weakly_canonical(all[i]);
    if (real != best && real != latest) fs::remove_all(all[i]);
  }
  for (const auto& entry : fs::directory_iterator(run_dir)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && !entry.path().extension().empty()) {
      fs::remove_all(entry.path());  // .tmp or .old
    }
  }
}

}  // namespace aerie
