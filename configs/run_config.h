// One YAML file describes a run. Keys, types, ranges, defaults and help of every section stand in
// one table (run_config.cpp) that parses, checks, prints `--help-config` and writes the resolved
// file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aerie {

struct TargetSection {
  std::filesystem::path path;  // HF directory
};

struct DraftSection {
  int64_t vocab_size = 8192;
  std::vector<int64_t> layer_ids;  // outputs of these layers, 0-based; []: default of target_models
  std::string init = "target";     // target | head | random
  std::string body = "llama";      // llama | qwen3: q and k are normed
  int64_t layers = 1;
  bool norm_output = false, fc_norm = false;  // EAGLE-3.1
  bool norm_before_residual = false;
  bool use_input_embeds = false;   // media positions: the target's features, not the placeholder's
  int64_t window = 0;              // latest tokens that a row of the draft sees; 0: all
  std::string serve_with = "any";  // any | vllm | sglang | speculators | gguf
};

struct DataSection {
  std::vector<std::filesystem::path> train;
  std::filesystem::path heldout;  // optional
  std::filesystem::path cache;    // token shards; default <output.dir>/data
  int64_t max_length = 2048;      // tokens a document
  bool last_turn_only = false;
  bool reasoning = true;         // <think> ... </think> stays in the text
  std::string assistant_header;  // empty: found from the chat template
  std::string end_of_turn;       // likewise
  std::string variables = "{}";  // JSON, for the chat template
  double max_bad_rows = 0.01;    // share of the rows
};

struct HiddenStatesSection {
  std::string mode = "online";       // online | offline | hybrid
  std::filesystem::path store;       // default <output.dir>/hidden_states
  std::string precision = "exact";   // exact | int8
  std::string compression = "none";  // none | deflate | zstd
  int64_t shard_bytes = int64_t{2} << 30;
  std::string verify = "once";  // once | never
};

struct TrainSection {
  std::string objective = "eagle3";  // eagle3 | wedlm
  int64_t block = 8;                 // of wedlm: trainer/dual_stream.h
  double ar_weight = 1;
  int64_t unroll = 7;                // K
  double step_decay = 0.8;           // weight of depth k is step_decay^k
  std::vector<double> step_weights;  // []: by step_decay
  std::string loss = "kl";           // kernels/losses.h
  double lk_scale = 1, lk_decay = 3;
  double depth_keep = 0.6;   // trainer/unroll_plan.h
  double feature_noise = 0;  // largest
  bool recompute = false;
  int64_t pack_tokens = 4096;
  int64_t epochs = 1;
  int64_t max_steps = 0;  // 0: epochs decide
  int64_t accumulate = 1;
  int64_t checkpoint_every = 200;  // steps; 0: at the end only
  int64_t keep_checkpoints = 2;
  int64_t log_every = 1;
  uint64_t seed = 0;
  std::filesystem::path init_from;  // a draft to start from; empty: new weights
  int64_t zero = 0;                 // ZeRO stage: 1 shares the optimizer's moments among the ranks
  int64_t rank_timeout = 300;       // seconds that a rank waits for the others
};

struct OptimSection {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.0;
  double clip = 1.0;                // global gradient norm
  std::string schedule = "cosine";  // constant | linear | cosine | wsd
  int64_t warmup_steps = 20;
  double warmup_ratio = 0;   // 0: warmup_steps
  double decay_ratio = 0.2;  // of wsd
  double ema = 0;            // 0: no average
  double final_lr_ratio = 0.1;
};

struct EvalSection {
  int64_t every = 0;     // steps; 0: at the end only
  int64_t prompts = 8;   // held-out prompts decoded to measure acceptance; 0: none
  int64_t patience = 0;  // evaluations without a better one that end the run; 0: never
};

struct OutputSection {
  std::filesystem::path dir;  // runs/<name>
};

// What a step may guess, in a run file as in a flag.
constexpr int64_t kMostDraftTokens = 16, kMostTreeWidth = 32, kMostTreeNodes = 64;

struct DecodeSection {
  int64_t draft_tokens = 5;
  bool tree = false;  // evaluations guess in trees besides
  int64_t tree_width = 4, tree_nodes = 15;
  int64_t max_new_tokens = 256;
};

struct RunConfig {
  TargetSection target;
  DraftSection draft;
  DataSection data;
  HiddenStatesSection hidden_states;
  TrainSection train;
  OptimSection optim;
  EvalSection eval;
  OutputSection output;
  DecodeSection decode;
};

/// Reads a run file and applies `overrides` ("train.lr=2e-4"). Throws Error: unknown key (file,
/// line, nearest known key), wrong type or range (allowed values), missing required key.
RunConfig load_run_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides);
/// The same without the check for missing keys, and `file` may be empty: for commands that take
/// some of their flags from a run file. What neither says stays as in `config`.
RunConfig read_run_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides, RunConfig config = {});
/// "section.key" -> value, of every key.
std::map<std::string, std::string> values_of(const RunConfig& config);
/// The resolved configuration as YAML; loading it again gives the same RunConfig.
std::string to_yaml(const RunConfig& config);
/// Every key with type, default, unit and one line of help.
std::string describe_run_config();

}  // namespace aerie
