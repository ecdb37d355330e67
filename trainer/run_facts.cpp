#include "trainer/run_facts.h"

#include <fmt/ranges.h>

#include <fstream>

#include "common/files.h"

namespace aerie {
namespace {

/// Where tensors stand, of which types and shapes: a safetensors file begins with the length of its
/// JSON header.
std::string safetensors_header(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string header(std::min<uint64_t>(length, fs::file_size(file)), '\0');
  stream.read(header.data(), static_cast<std::streamsize>(header.size()));
  return header;
}

}  // namespace

RunFacts run_facts(const RunConfig& config, const DraftConfig& draft,
                   const std::string& target_fingerprint, const std::string& data_key,
                   const std::string& vocabulary_hash, at::ScalarType dtype) {
  const TrainSection& train = config.train;
  const OptimSection& optim = config.optim;
  const auto text = [](const auto& value) { return fmt::format("{}", value); };
  RunFacts facts{
      {"target.path (its config and weights)", target_fingerprint},
      {"data.train (its content and preparation)", data_key},
      {"draft.vocab_size (the vocabulary's hash)", vocabulary_hash},
      {"draft.vocab_size", text(draft.draft_vocab)},
      {"draft.layer_ids", fmt::format("{}", draft.capture_layers)},
      {"draft.init", config.draft.init},
      {"train.unroll", text(train.unroll)},
      {"train.step_decay", text(train.step_decay)},
      {"train.pack_tokens", text(train.pack_tokens)},
      {"train.epochs", text(train.max_steps > 0 ? 0 : train.epochs)},
      {"train.max_steps", text(train.max_steps)},
      {"train.accumulate", text(train.accumulate)},
      {"train.seed", text(train.seed)},
      {"optim.lr", text(optim.lr)},
      {"optim.beta1", text(optim.beta1)},
      {"optim.beta2", text(optim.beta2)},
      {"optim.eps", text(optim.eps)},
      {"optim.weight_decay", text(optim.weight_decay)},
      {"optim.clip", text(optim.clip)},
      {"optim.schedule", optim.schedule},
      {"optim.warmup_steps", text(optim.warmup_steps)},
      {"optim.final_lr_ratio", text(optim.final_lr_ratio)},
      {"--dtype", c10::toString(dtype)},
  };
  // Keys that came later stand here where they are used only: older checkpoints go on.
  const RunConfig plain;
  const auto add = [&](const char* key, const auto& value, const auto& usual) {
    if (value != usual) facts[key] = text(value);
  };
  add("draft.body", config.draft.body, plain.draft.body);
  add("draft.layers", config.draft.layers, plain.draft.layers);
  add("draft.norm_output", config.draft.norm_output, plain.draft.norm_output);
  add("draft.fc_norm", config.draft.fc_norm, plain.draft.fc_norm);
  add("draft.norm_before_residual", config.draft.norm_before_residual,
      plain.draft.norm_before_residual);
  add("train.loss", train.loss, plain.train.loss);
  add("train.lk_scale", train.lk_scale, plain.train.lk_scale);
  add("train.lk_decay", train.lk_decay, plain.train.lk_decay);
  add("train.depth_keep", train.depth_keep, plain.train.depth_keep);
  add("train.feature_noise", train.feature_noise, plain.train.feature_noise);
  add("optim.warmup_ratio", optim.warmup_ratio, plain.optim.warmup_ratio);
  add("optim.decay_ratio", optim.decay_ratio, plain.optim.decay_ratio);
  add("optim.ema", optim.ema, plain.optim.ema);
  if (!train.step_weights.empty()) {
    facts["train.step_weights"] = fmt::format("{}", train.step_weights);
  }
  // Where exact states come from makes no difference: such runs go on in any mode.
  const bool rounded =
      config.hidden_states.mode != "online" && config.hidden_states.precision != "exact";
  if (rounded) facts["hidden_states.precision"] = config.hidden_states.precision;
  if (!train.init_from.empty()) facts.emplace("train.init_from", train.init_from.string());
  return facts;
}

std::string fingerprint_target(const fs::path& directory) {
  std::vector<fs::path> weights;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") weights.push_back(entry.path());
  }
  std::sort(weights.begin(), weights.end());
  std::string facts = read_file(directory / "config.json");
  for (const fs::path& file : weights) {
    facts += fmt::format("{} {} ", file.filename().string(), fs::file_size(file));
    facts += safetensors_header(file);
  }
  return hash_hex(facts);
}

}  // namespace aerie
