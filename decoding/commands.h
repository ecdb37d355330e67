// What the command line calls in this room.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/media.h"
#include "draft_models/acceptance.h"
#include "draft_models/draft.h"
#include "target_models/model.h"

namespace aerie {

/// How a command speculates, beside the number of draft tokens.
struct TreeFlags {
  bool tree = false, adaptive = false;
  int64_t tree_width = 4, tree_nodes = 15;
};

/// How a command schedules requests that come while others are decoded.
struct ScheduleFlags {
  int64_t max_sequences = 16;  ///< decoded at a time
  double inter_token_ms = 0;   ///< target for the time between tokens; 0: none
  bool evict = false, prefix_cache = false;
  int64_t kv_tokens = 0;  ///< size of the cache; 0: what max_sequences may need
};

/// How a command decodes by diffusion.
struct DiffusionFlags {
  int64_t window = 8, mask_token = -1;  ///< mask_token -1: the target's
  double entropy_threshold = 0.4, position_penalty = 0.02;
  bool unverified = false;  ///< as the paper has it: another text than autoregressive decoding's
};

/// Which way of decoding a command was asked for.
struct DecoderFlags : TreeFlags, DiffusionFlags {
  std::filesystem::path draft;  ///< exported
  std::string decoder;          ///< as make_decoder knows them
  int64_t draft_tokens = 5;
};

/// Either `prompt`, whose answer goes to stdout, or `input` and `output`.
struct GenerateFlags : DecoderFlags {
  std::filesystem::path target, input, output;
  std::string prompt;
  int64_t concurrency = 8, max_new_tokens = 256;
  double temperature = 0;
  uint64_t seed = 0;
  bool ignore_eos = false, json = false;
  std::string device = "cpu", dtype = "bfloat16";
};
void generate_command(const GenerateFlags& flags);

/// Regenerates the assistant turns of every row with the target, or with the server that it is
/// served by; appends rows as they finish, resumes by id.
struct ResampleFlags {
  std::filesystem::path target, input, output;
  std::string server, model, api_key;  ///< as ChatClient takes them; server "": `target` answers
  int64_t concurrency = 64, max_new_tokens = 512, limit = 0;  ///< limit: first rows only; 0: all
  std::vector<double> temperature{0};                         ///< as AnswerRule draws it
  uint64_t seed = 0;
  bool json = false;
  std::string device = "cpu", dtype = "bfloat16";
};
void resample_command(const ResampleFlags& flags);

/// What both forms of aerie bench are told.
struct BenchCommonFlags : TreeFlags {
  std::filesystem::path target, draft, input, output;
  int64_t max_new_tokens = 256;
  bool ignore_eos = false, json = false;
  std::string device = "cpu", dtype = "bfloat16";
};

/// Trees, adaptive and n-gram speculation and diffusion run beside the chains, not in their place;
/// unverified diffusion beside the exact one.
struct BenchFlags : BenchCommonFlags, DiffusionFlags {
  std::vector<int64_t> concurrency{1};
  std::vector<int64_t> draft_tokens{5};
  int64_t limit = 0, repeats = 1;
  bool ngram = false, diffusion = false;
  bool no_fixed = false;  ///< of a draft only what `adaptive` adds
};
void bench_command(const BenchFlags& flags);

/// aerie bench --load: every policy with every row budget at every load.
struct LoadFlags : BenchCommonFlags, ScheduleFlags {
  std::vector<double> rates;                       ///< Poisson arrivals a second
  std::vector<int64_t> streams;                    ///< closed loops
  std::vector<std::string> policies{"splitfuse"};  ///< as parse_policy knows them
  std::vector<int64_t> row_budget{512};
  std::vector<int64_t> prompt_tokens;  ///< in place of `input`: made prompts, each of one of these
  int64_t requests = 64, draft_tokens = 5;
  double goal_first_ms = 1000, goal_between_ms = 100;  ///< what counts as a good answer
  std::filesystem::path clock_table;                   ///< "": the machine's clock
  bool measure_clock = false;
  uint64_t seed = 0;
};
void load_command(const LoadFlags& flags);

struct ServeFlags : DecoderFlags, ScheduleFlags {
  ServeFlags() {
    draft_tokens = 3;
    prefix_cache = true;
  }
  std::filesystem::path target;
  std::string host = "127.0.0.1", name, api_key;  ///< name: "" is the target directory's
  std::string policy = "splitfuse";
  int64_t port = 8000;     ///< 0: any free one
  int64_t row_budget = 0;  ///< 0: 128, or 512 where inter_token_ms bounds it
  int64_t max_requests = 1024, max_body_mb = 8;
  int64_t context = 0;  ///< 0: the model's own
  double drain_seconds = 30;
  bool json = false;
  std::string device = "cpu", dtype = "bfloat16";
};
/// Serves until SIGTERM or SIGINT: then takes no more requests, finishes those that run, and
/// returns.
void serve_command(const ServeFlags& flags);

/// How the trainer's evaluation decodes: always in chains, in trees besides where `tree` is set.
struct MeasureFlags : TreeFlags {
  int64_t draft_tokens = 5, max_new_tokens = 256;
};
/// Greedy acceptance of a draft on prompts: what the trainer's evaluation calls through main().
Acceptance measure_acceptance(const TargetModel& target, const DraftConfig& config,
                              const DraftParams& params, const VocabMap& vocab,
                              const std::vector<MediaTokens>& prompts, const MeasureFlags& flags);

}  // namespace aerie
