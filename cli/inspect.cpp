#include "cli/inspect.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/chat_template.h"
#include "data/hidden_manifest.h"
#include "data/token_shards.h"
#include "data/tokenizer.h"
#include "target_models/model.h"
#include "trainer/checkpoint.h"
#include "trainer/draft_check.h"

namespace aerie::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Loading a target checks name, shape and size of every tensor.
Json target_facts(const fs::path& directory) {
  const auto target = load_target(directory, at::kCPU, at::kBFloat16);
  const Tokenizer tokenizer(directory);
  const ModelConfig& config = target->config();
  const bool speaks = config.text_vocab > 0;
  return {{"kind", "target"},
          {"architecture", config.architecture},
          {"layers", config.layers},
          {"hidden", config.hidden},
          {"heads", config.heads},
          {"kv_heads", config.kv_heads},
          {"vocabulary", config.vocab},
          {"tokenizer_ids", tokenizer.vocab_size()},
          {"chat_template", speaks ? "none: it speaks" : ChatTemplate(directory).origin()},
          {"context", config.max_position},
          {"default_capture_layers", default_capture_layers(config.layers)}};
}

Json draft_facts(const fs::path& place) {
  const DraftConfig config = check_draft(place, std::nullopt).config;
  return {{"kind", "draft"},
          {"hidden", config.hidden},
          {"target_hidden", config.target_hidden},
          {"draft_vocabulary", config.draft_vocab},
          {"vocabulary", config.vocab},
          {"capture_layers", config.capture_layers}};
}

Json checkpoint_facts(const fs::path& directory) {
  const TrainState state = read_state(directory);
  read_masters(directory);
  // What was trained is a draft, or a target (train.objective wedlm).
  Json trained = fs::exists(directory / "target") ? target_facts(directory / "target")
                                                  : draft_facts(directory / "draft");
  trained.erase("kind");
  Json facts{{"kind", "checkpoint"},
             {"step", state.step},
             {"tokens", state.tokens},
             {"supervised_tokens", state.supervised}};
  if (state.best.step >= 0) {
    facts["best_step"] = state.best.step;
    facts["best_" + state.best.metric] = state.best.value;
  }
  facts.update(trained);
  return facts;
}

Json run_facts(const fs::path& directory) {
  Json facts{{"kind", "run"}, {"latest", fs::read_symlink(directory / "latest").string()}};
  if (fs::exists(directory / "best")) facts["best"] = fs::read_symlink(directory / "best").string();
  Json latest = checkpoint_facts(directory / "latest");
  latest.erase("kind");
  facts.update(latest);
  return facts;
}

Json shard_facts(const fs::path& directory) {
  const TokenShards shards(directory);
  return {{"kind", "token shards"},
          {"documents", shards.size()},
          {"tokens", shards.tokens()},
          {"supervised_tokens", shards.supervised()}};
}

/// Reads every shard to its end.
Json store_facts_of(const fs::path& directory) {
  const HiddenManifest manifest = read_manifest(directory);
  int64_t documents = 0, rows = 0, bytes = 0;
  for (const ShardEntry& shard : manifest.shards) {
    verify_shard(directory, shard);
    documents += shard.documents;
    rows += shard.rows;
    bytes += shard.bytes;
  }
  Json facts{{"kind", "hidden-state store"},
             {"documents", documents},
             {"rows", rows},
             {"shards", manifest.shards.size()},
             {"bytes", bytes}};
  facts.update(Json(manifest.facts));
  return facts;
}

bool is_draft(const fs::path& config_file) {
  const Json config = Json::parse(read_file(config_file), nullptr, false);
  return config.is_object() && config.contains("draft_vocab_size");
}

}  // namespace

Json inspect(const fs::path& directory) {
  if (fs::is_regular_file(directory)) return draft_facts(directory);
  AERIE_CHECK(fs::is_directory(directory), "{} is neither a directory nor a file",
              directory.string());
  if (fs::exists(directory / "state.json")) return checkpoint_facts(directory);
  if (fs::exists(directory / "latest")) return run_facts(directory);
  if (fs::exists(directory / "index.json")) return shard_facts(directory);
  if (fs::exists(directory / "manifest.json")) return store_facts_of(directory);
  AERIE_CHECK(
      fs::exists(directory / "config.json"),
      "{} is nothing that Aerie knows: a target or a draft has config.json, a checkpoint "
      "state.json, a run latest/, token shards index.json, a hidden-state store manifest.json",
      directory.string());
  return is_draft(directory / "config.json") ? draft_facts(directory) : target_facts(directory);
}

}  // namespace aerie::cli
