#include "trainer/run_facts.h"

#include <fmt/ranges.h>

#include <set>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

/// "draft.vocab_size (the vocabulary's hash)" -> "draft.vocab_size"
std::string field_of(const std::string& fact) { return fact.substr(0, fact.find(" (")); }

/// Facts that differ, with both values.
std::map<std::string, std::pair<std::string, std::string>> differences(const RunFacts& was,
                                                                       const RunFacts& is) {
  const auto value = [](const RunFacts& facts, const std::string& key) {
    const auto found = facts.find(key);
    return found == facts.end() ? std::string("(absent)") : found->second;
  };
  RunFacts keys = was;
  keys.insert(is.begin(), is.end());
  std::map<std::string, std::pair<std::string, std::string>> found;
  for (const auto& [key, unused] : keys) {
    if (value(was, key) != value(is, key)) found[key] = {value(was, key), value(is, key)};
  }
  return found;
}

/// Throws Error for an override that cannot be.
void check_overrides(const RunFacts& is, const std::vector<std::string>& overrides) {
  std::set<std::string> fields;
  for (const auto& [fact, unused] : is) fields.insert(field_of(fact));
  for (const std::string& name : overrides) {
    AERIE_CHECK(name != "draft.vocab_size" && name != "draft.layer_ids",
                "--resume-override {}: the weights have this shape. Start a new run from them with "
                "train.init_from",
                name);
    AERIE_CHECK(fields.contains(name),
                "--resume-override {}: a resumed run need not agree on that; fields are {}", name,
                fmt::join(fields, ", "));
  }
}

}  // namespace

std::string facts_diff(const RunFacts& was, const RunFacts& is) {
  std::string diff;
  for (const auto& [key, values] : differences(was, is)) {
    diff += fmt::format("\n  {}: was {}, is {}", key, values.first, values.second);
  }
  return diff;
}

std::vector<std::string> check_same_run(const fs::path& checkpoint, const RunFacts& was,
                                        const RunFacts& is,
                                        const std::vector<std::string>& overrides) {
  check_overrides(is, overrides);
  RunFacts allowed = is;
  std::vector<std::string> overridden;
  for (const auto& [key, values] : differences(was, is)) {
    if (std::find(overrides.begin(), overrides.end(), field_of(key)) == overrides.end()) continue;
    overridden.push_back(field_of(key));
    allowed.erase(key);
    if (was.contains(key)) allowed[key] = values.first;
  }
  const std::string diff = facts_diff(was, allowed);
  AERIE_CHECK(
      diff.empty(),
      "{} belongs to a run with another configuration:{}\nSet these back to resume it, name "
      "those that may change (--resume-override optim.lr,...), or start afresh with another "
      "output.dir",
      checkpoint.string(), diff);
  return overridden;
}

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
  // Keys that came later stand here where they say something new only: older checkpoints go on.
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
  add("draft.use_input_embeds", config.draft.use_input_embeds, plain.draft.use_input_embeds);
  add("draft.window", config.draft.window, plain.draft.window);
  add("train.objective", train.objective, plain.train.objective);
  add("train.block", train.block, plain.train.block);
  add("train.ar_weight", train.ar_weight, plain.train.ar_weight);
  add("train.loss", train.loss, plain.train.loss);
  add("train.lk_scale", train.lk_scale, plain.train.lk_scale);
  add("train.lk_decay", train.lk_decay, plain.train.lk_decay);
  add("train.depth_keep", train.depth_keep, 1.0);
  add("train.recompute", train.recompute, plain.train.recompute);
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

}  // namespace aerie
