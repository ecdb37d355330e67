// aerie export: a checkpoint, or another draft, in the form that a serving engine loads; read back
// and compared before it is called done.
#include <algorithm>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "draft_models/gguf_draft.h"
#include "draft_models/servable.h"
#include "target_models/hf_json.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/draft_check.h"

namespace aerie {
namespace {

/// What is exported.
struct Source {
  DraftConfig config;
  DraftParams params;
  VocabMap vocab;
  std::string origin;        ///< for messages
  std::string target;        ///< a directory or name; "": not known
  int64_t draft_tokens = 3;  ///< that a server should draft by default
};

/// How a directory of `format` counts layers.
LayerIds convention_of(const std::string& format) {
  return format == "sglang" ? LayerIds::kOutputOfLayer : LayerIds::kAfterLayers;
}

Source read_checkpoint(const fs::path& directory) {
  const TrainState state = read_state(directory);
  LoadedDraft own = read_any_draft(directory / "draft", std::nullopt);
  const RunConfig run = read_run_config(directory / "config.yaml", {});
  return {own.config,
          read_result(directory),
          own.vocab,
          fmt::format("{} (step {}, {} tokens)", directory.string(), state.step, state.tokens),
          run.target.path.string(),
          run.decode.draft_tokens};
}

Source read_source(const ExportFlags& flags) {
  const fs::path& place = flags.checkpoint;
  if (!fs::exists(place / "config.json")) return read_checkpoint(place);
  LoadedDraft draft = read_any_draft(place, std::nullopt);
  AERIE_CHECK(!draft.embed.defined(),
              "{} has an embedding of its own (embed_tokens.weight), and an exported draft shares "
              "its target's: remove the tensor if it is the target's",
              place.string());
  return {draft.config, draft.params, draft.vocab, place.string(), "", 3};
}

Verifier verifier_of(const Source& source, int64_t draft_tokens) {
  Verifier verifier{source.target, {}, draft_tokens};
  const fs::path config = fs::path(source.target) / "config.json";
  if (fs::exists(config)) {
    verifier.architectures = HfJson::read(config)
                                 .find<std::vector<std::string>>("architectures")
                                 .value_or(std::vector<std::string>{});
    verifier.name = fs::absolute(source.target).lexically_normal().string();
  }
  return verifier;
}

LlamaCppTarget llama_cpp_target_of(const Source& source, const ExportFlags& flags) {
  if (!flags.target_gguf.empty())
    return llama_cpp_target_from_gguf(flags.target_gguf, source.config);
  AERIE_CHECK(!source.target.empty(),
              "a draft for llama.cpp carries its target's tokenizer: give --target DIR (Hugging "
              "Face) or --target-gguf FILE");
  return llama_cpp_target(source.target, source.config);
}

void write(const Source& source, const ExportFlags& flags) {
  const auto& [config, params, vocab, origin, target, draft_tokens] = source;
  check_servable(config, flags.format);
  const std::string unlike = fed_otherwise(config);
  if (!unlike.empty()) log_warning(unlike);
  if (flags.format == "gguf") {
    save_gguf_draft(flags.output, config, params, vocab, llama_cpp_target_of(source, flags));
  } else if (flags.format == "speculators") {
    save_speculators_draft(flags.output, config, params, vocab, verifier_of(source, draft_tokens));
  } else {
    save_draft(flags.output, config, params, vocab, at::kBFloat16, convention_of(flags.format));
  }
}

void compare(const Source& source, const LoadedDraft& written, const fs::path& place) {
  AERIE_CHECK(written.vocab.draft_to_target.equal(source.vocab.draft_to_target),
              "{}: the vocabulary map does not read back as it was written", place.string());
  AERIE_CHECK(written.config.capture_layers == source.config.capture_layers,
              "{}: the layer ids read back as [{}] and were [{}]", place.string(),
              fmt::join(written.config.capture_layers, ","),
              fmt::join(source.config.capture_layers, ","));
  AERIE_CHECK(probe_logits(written.config, written.params)
                  .equal(probe_logits(source.config, source.params)),
              "{}: read back, the draft gives other logits than {}: do not use it, and report this",
              place.string(), source.origin);
}

void refuse_bad_flags(const ExportFlags& flags) {
  const auto& formats = export_formats();
  AERIE_CHECK(std::count(formats.begin(), formats.end(), flags.format) == 1,
              "--format {} is not known: choose one of {}", flags.format, fmt::join(formats, ", "));
  const bool file = flags.output.extension() == ".gguf";
  AERIE_CHECK(
      !flags.check.empty() || file == (flags.format == "gguf"),
      "--output {}: --format gguf writes one file, whose name must end in .gguf; the others "
      "write a directory",
      flags.output.string());
}

/// Exporting replaces an earlier export, and nothing else.
void refuse_to_replace(const fs::path& output, const fs::path& checkpoint) {
  if (!fs::exists(output) || output.extension() == ".gguf") return;
  const fs::path own = checkpoint / "draft";
  AERIE_CHECK(!fs::exists(own) || !fs::equivalent(own, output),
              "--output {} is a part of the checkpoint: name a directory of the draft's own",
              output.string());
  AERIE_CHECK(fs::is_directory(output),
              "--output {} is a file: name a directory of the draft's own", output.string());
  for (const auto& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename().string();
    AERIE_CHECK(name == "config.json" || name == "model.safetensors",
                "--output {} holds other things than an exported draft ({}), which would be lost: "
                "name a directory of the draft's own",
                output.string(), name);
  }
}

}  // namespace

const std::vector<std::string>& export_formats() {
  static const std::vector<std::string> formats{"vllm", "sglang", "speculators", "gguf"};
  return formats;
}

void export_command(const ExportFlags& flags) {
  refuse_bad_flags(flags);
  if (!flags.check.empty()) {
    check_draft(flags.check, convention_of(flags.format));
    return;
  }
  refuse_to_replace(flags.output, flags.checkpoint);
  Source source = read_source(flags);
  if (!flags.target.empty()) source.target = flags.target;
  write(source, flags);
  compare(source, read_any_draft(flags.output, std::nullopt), flags.output);
  log_info(fmt::format(
      "wrote {} from {}: the {} dialect, bf16; read back, its logits equal the original's",
      flags.output.string(), source.origin, flags.format));
}

}  // namespace aerie
