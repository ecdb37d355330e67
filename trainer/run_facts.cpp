#include "trainer/run_facts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

/// "draft.vocab_size (the vocabulary's hash)" -> "draft.vocab_size"
std::string field_of(const std::string& fact) { return fact.substr(0, fact.find(" (")); }

// What a resumed run may change: where it reads and writes, how often it looks, how many processes
// share the work. Of the target, the data and the vocabulary run_facts knows the content.
constexpr std::string_view kFree[] = {"target.",
                                      "data.",
                                      "hidden_states.",
                                      "eval.",
                                      "output.",
                                      "decode.",
                                      "draft.vocab_size",
                                      "draft.layer_ids",
                                      "draft.serve_with",
                                      "train.log_every",
                                      "train.checkpoint_every",
                                      "train.keep_checkpoints",
                                      "train.zero",
                                      "train.rank_timeout"};

bool is_free(const std::string& key) {
  return std::any_of(std::begin(kFree), std::end(kFree),
                     [&](std::string_view prefix) { return key.starts_with(prefix); });
}

/// Facts that differ, with both values. A key that a checkpoint does not know yet had its default.
std::map<std::string, std::pair<std::string, std::string>> differences(const RunFacts& was,
                                                                       const RunFacts& is) {
  static const RunFacts defaults = values_of({});
  const auto value = [](const RunFacts& facts, const std::string& key) {
    const auto found = facts.find(key);
    if (found != facts.end()) return found->second;
    const bool usual = defaults.contains(key) && !is_free(key);
    return usual ? defaults.at(key) : std::string("(absent)");
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
  RunFacts facts = values_of(config);
  std::erase_if(facts, [](const auto& fact) { return is_free(fact.first); });
  facts.merge(RunFacts{
      {"target.path (its config and weights)", target_fingerprint},
      {"data.train (its content and preparation)", data_key},
      {"draft.vocab_size (the vocabulary's hash)", vocabulary_hash},
      {"draft.vocab_size", std::to_string(draft.draft_vocab)},
      {"draft.layer_ids", fmt::format("{}", draft.capture_layers)},
      {"--dtype", c10::toString(dtype)},
  });
  if (config.train.max_steps > 0) facts.erase("train.epochs");
  // Where exact states come from makes no difference: such runs go on in any mode.
  const bool rounded =
      config.hidden_states.mode != "online" && config.hidden_states.precision != "exact";
  if (rounded) facts["hidden_states.precision"] = config.hidden_states.precision;
  return facts;
}

}  // namespace aerie
