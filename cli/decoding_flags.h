// Flags that the commands which decode have in common.
#pragma once
#include <string>
#include <type_traits>

#include "cli/commands.h"
#include "decoding/commands.h"

namespace aerie::cli {

/// What the command line was given besides the flags of the room's own struct.
template <typename Flags>
struct Command {
  CommonFlags common;
  Flags flags;
};

struct Places {
  CLI::Option *input, *output;
};

template <typename Flags>
Places add_places(CLI::App& command, Flags& flags, const char* output) {
  command.add_option("--target", flags.target,
                     "Hugging Face directory of the target (or target.path of --config)");
  return {command.add_option("--input", flags.input,
                             "prompts: JSON lines of conversations, messages, prompt or turns"),
          command.add_option("--output", flags.output, output)};
}

template <typename Flags>
void add_limits(CLI::App& command, Flags& flags) {
  command.add_option("--max-new-tokens", flags.max_new_tokens, "longest answer")
      ->check(above_zero())
      ->capture_default_str();
  command.add_flag("--json", flags.json, "a machine-readable summary on stdout");
}

inline void add_seed(CLI::App& command, uint64_t& seed) {
  command.add_option("--seed", seed, "of the sampling")->capture_default_str();
}

inline void add_sampling(CLI::App& command, GenerateFlags& flags) {
  command.add_option("--temperature", flags.temperature, "0: the most likely token")
      ->check(zero_or_more())
      ->capture_default_str();
  add_seed(command, flags.seed);
}

template <typename Value>
void add_draft_tokens(CLI::App& command, Value& value) {
  command.add_option("--draft-tokens", value, "tokens drafted a step")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, kMostDraftTokens))
      ->capture_default_str();
}

inline void add_tree(CLI::App& command, TreeFlags& flags) {
  command.add_flag("--tree", flags.tree, "guess trees (EAGLE-2) as deep as --draft-tokens");
  command.add_option("--tree-width", flags.tree_width, "tokens tried after each guess of a tree")
      ->check(CLI::Range(int64_t{2}, kMostTreeWidth))
      ->capture_default_str();
  command.add_option("--tree-nodes", flags.tree_nodes, "guesses of a tree that are verified")
      ->check(CLI::Range(int64_t{1}, kMostTreeNodes))
      ->capture_default_str();
  command.add_flag("--adaptive", flags.adaptive,
                   "guess only as far as it pays, by what held and what a forward costs");
}

inline void add_diffusion(CLI::App& command, DiffusionFlags& flags) {
  const auto masks = command.add_option("--window", flags.window, "diffusion: masks fed at a time");
  masks->check(CLI::Range(1, 64))->capture_default_str();
  command
      .add_option("--entropy-threshold", flags.entropy_threshold,
                  "diffusion: masks that are surer (nats) are filled; 0: one at a time")
      ->check(zero_or_more())
      ->capture_default_str();
  command
      .add_option("--position-penalty", flags.position_penalty,
                  "diffusion: nats more for every place behind the first mask")
      ->check(zero_or_more())
      ->capture_default_str();
  command.add_option("--mask-token", flags.mask_token,
                     "diffusion: token in place of the target's mask; -1: its mask_token_id");
}

/// Not for a server: callers would get another text than the target's own, without log
/// probabilities.
inline void add_unverified(CLI::App& command, DiffusionFlags& flags) {
  command.add_flag("--unverified", flags.unverified,
                   "diffusion: keep what the masks say, another text than the target's own");
}

/// Which decoder, and how it guesses.
inline void add_decoder(CLI::App& command, DecoderFlags& flags) {
  command.add_option("--draft", flags.draft, "exported draft (for --decoder eagle3)");
  command
      .add_option("--decoder", flags.decoder, "default: eagle3 with --draft, else autoregressive")
      ->check(CLI::IsMember({"autoregressive", "eagle3", "ngram", "diffusion"}));
  add_draft_tokens(command, flags.draft_tokens);
  add_tree(command, flags);
  add_diffusion(command, flags);
}

template <typename Value>
void add_concurrency(CLI::App& command, Value& value) {
  command.add_option("--concurrency", value, "sequences in one batch")
      ->delimiter(',')
      ->check(above_zero())
      ->capture_default_str();
}

inline CLI::IsMember known_policies() {
  return CLI::IsMember({"splitfuse", "prefill-first", "static"});
}

/// `prefix`: what the flag of the prefix cache is called.
inline void add_schedule(CLI::App& command, ScheduleFlags& flags, const std::string& prefix,
                         const std::string& group) {
  const auto grouped = [&](CLI::Option* option) { option->group(group)->capture_default_str(); };
  grouped(
      command.add_option("--max-sequences", flags.max_sequences, "decoded at a time; others wait")
          ->check(above_zero()));
  grouped(command
              .add_option("--inter-token-ms", flags.inter_token_ms,
                          "while answers are decoded, a forward has no more rows than take so long "
                          "here (measured at start); 0: as many as --row-budget")
              ->check(zero_or_more()));
  grouped(command
              .add_option("--kv-tokens", flags.kv_tokens,
                          "tokens that the cache holds; 0: what --max-sequences may need, within "
                          "half of the memory")
              ->check(zero_or_more()));
  grouped(command.add_flag("--evict", flags.evict,
                           "let requests in while there is room for their text so far; where the "
                           "cache runs out, the newest is set back, its output kept"));
  grouped(command.add_flag(prefix, flags.prefix_cache, "prompts that begin alike share the cache"));
}

inline int64_t one_of(int64_t value) { return value; }
inline int64_t one_of(const std::vector<int64_t>& values) { return values.front(); }
inline void set_to(int64_t& value, int64_t from) { value = from; }
inline void set_to(std::vector<int64_t>& values, int64_t from) { values = {from}; }

/// What the run file says of decoding, where it says something and no flag does; otherwise the
/// command's own default stays.
template <typename Flags>
RunConfig read_config(const CLI::App& command, const CommonFlags& common, Flags& flags) {
  RunConfig config;
  DecodeSection& decode = config.decode;
  const auto each = [&](const auto& use) {
    if constexpr (requires { flags.max_new_tokens; }) {
      use("--max-new-tokens", decode.max_new_tokens, flags.max_new_tokens);
    }
    if constexpr (requires { flags.draft_tokens; }) {
      use("--draft-tokens", decode.draft_tokens, flags.draft_tokens);
    }
    if constexpr (std::is_base_of_v<TreeFlags, Flags>) {
      use("--tree-width", decode.tree_width, flags.tree_width);
      use("--tree-nodes", decode.tree_nodes, flags.tree_nodes);
    }
  };
  each([](const char*, int64_t& key, const auto& flag) { key = one_of(flag); });
  config = read_run_config(common.config, common.set, config);
  each([&](const char* name, int64_t key, auto& flag) {
    if (command.count(name) == 0) set_to(flag, key);
  });
  if constexpr (std::is_base_of_v<TreeFlags, Flags>) flags.tree |= decode.tree;
  return config;
}

/// Fills what was not given as a flag from --config and --set, then sets threads and logging.
template <typename Flags>
void complete(const CLI::App& command, Command<Flags>& given, bool needs_target = true) {
  apply(given.common);
  given.flags.device = given.common.device;
  given.flags.dtype = given.common.dtype;
  if (!given.common.config.empty() || !given.common.set.empty()) {
    const RunConfig config = read_config(command, given.common, given.flags);
    if (given.flags.target.empty()) given.flags.target = config.target.path;
  }
  if (needs_target && given.flags.target.empty()) {
    throw CLI::RequiredError("--target, or target.path of --config");
  }
}

}  // namespace aerie::cli
