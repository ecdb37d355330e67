#include "configs/run_config.h"

#include "common/error.h"
#include "common/files.h"
#include "configs/schema.h"

namespace aerie {
namespace {

using schema::above;
using schema::any;
using schema::at_least;
using schema::between;
using schema::one_of;
using schema::required;

/// Every key there is: name, where it goes, what is allowed, unit, help. Defaults are those of
/// RunConfig.
schema::Table table_of(RunConfig& c) {
  return {
      {"target.path", &c.target.path, required(), "",
       "Hugging Face directory of the frozen target model"},

      {"draft.vocab_size", &c.draft.vocab_size, at_least(1), "tokens",
       "size of the draft vocabulary: the most frequent supervised tokens"},
      {"draft.layer_ids", &c.draft.layer_ids, at_least(0), "",
       "target layers whose outputs the draft reads, 0-based, ascending; []: early, middle and "
       "late"},
      {"draft.init", &c.draft.init, one_of({"target", "head", "random"}), "",
       "what the draft starts from: the target's last layer, final norm and head; the head alone; "
       "noise"},
      {"draft.body", &c.draft.body, one_of({"llama", "qwen3"}), "",
       "form of the decoder layers; qwen3 norms queries and keys"},
      {"draft.layers", &c.draft.layers, between(1, 8), "", "decoder layers of the draft"},
      {"draft.norm_output", &c.draft.norm_output, any(), "",
       "feed the state back after the final norm (EAGLE-3.1)"},
      {"draft.fc_norm", &c.draft.fc_norm, any(), "",
       "norm each captured layer before they are fused (EAGLE-3.1)"},
      {"draft.norm_before_residual", &c.draft.norm_before_residual, any(), "",
       "the residual stream starts from the normed state"},
      {"draft.use_input_embeds", &c.draft.use_input_embeds, any(), "",
       "where images and audio stand, the draft reads the target's features instead of the "
       "placeholder's embedding; no server does so yet"},
      {"draft.window", &c.draft.window, at_least(0), "tokens",
       "a row of the draft sees so many of the latest tokens, itself included; 0: all"},
      {"draft.serve_with", &c.draft.serve_with,
       one_of({"any", "vllm", "sglang", "speculators", "gguf"}), "",
       "refuse at the start what this engine's files cannot hold; any: at export"},

      {"data.train", &c.data.train, required(), "", "conversations to train on (JSON lines)"},
      {"data.heldout", &c.data.heldout, any(), "", "conversations to evaluate on; empty: none"},
      {"data.cache", &c.data.cache, any(), "",
       "where the token shards go; empty: <output.dir>/data"},
      {"data.max_length", &c.data.max_length, at_least(8), "tokens",
       "longer conversations are cut"},
      {"data.last_turn_only", &c.data.last_turn_only, any(), "",
       "supervise the last assistant turn only"},
      {"data.reasoning", &c.data.reasoning, any(), "",
       "keep the assistant's reasoning (<think> ... </think>, reasoning_content)"},
      {"data.assistant_header", &c.data.assistant_header, any(), "",
       "what the template prints before an assistant's text; empty: found from the template"},
      {"data.end_of_turn", &c.data.end_of_turn, any(), "",
       "what it prints after it, supervised too; empty: found from the template"},
      {"data.variables", &c.data.variables, any(), "",
       "JSON object of names that the template sees: '{\"enable_thinking\": false}'"},
      {"data.max_bad_rows", &c.data.max_bad_rows, between(0, 1), "share of the rows",
       "more unusable rows than this stop the run"},

      {"hidden_states.mode", &c.hidden_states.mode, one_of({"online", "offline", "hybrid"}), "",
       "online: the target runs at every step; offline: aerie dump has stored what it says; "
       "hybrid: "
       "the first epoch stores, later ones read"},
      {"hidden_states.store", &c.hidden_states.store, any(), "",
       "directory of stored hidden states; empty: <output.dir>/hidden_states"},
      {"hidden_states.precision", &c.hidden_states.precision, one_of({"exact", "int8"}), "",
       "exact: as the target made them; int8: half the disk, a scale a row and layer"},
      {"hidden_states.compression", &c.hidden_states.compression,
       one_of({"none", "deflate", "zstd"}), "",
       "of stored hidden states; lossless; zstd needs its HDF5 plugin"},
      {"hidden_states.shard_bytes", &c.hidden_states.shard_bytes, at_least(1), "bytes",
       "a file of the store is closed once it holds so much"},
      {"hidden_states.verify", &c.hidden_states.verify, one_of({"once", "never"}), "",
       "once: the whole file is compared with its checksum before its first rows train; never: the "
       "rows with their own alone"},

      {"train.objective", &c.train.objective, one_of({"eagle3", "wedlm"}), "",
       "eagle3: a draft that guesses for the target; wedlm: the target itself learns to fill masks "
       "(diffusion)"},
      {"train.block", &c.train.block, between(2, 32), "tokens",
       "wedlm: masks are drawn in blocks of so many; decode with windows up to it"},
      {"train.ar_weight", &c.train.ar_weight, at_least(0), "",
       "wedlm: weight of the next-token loss beside the masks'"},
      {"train.unroll", &c.train.unroll, between(1, 16), "steps",
       "depth K of the training-time test"},
      {"train.step_decay", &c.train.step_decay, between(0, 1), "",
       "depth k weighs step_decay^k in the loss"},
      {"train.step_weights", &c.train.step_weights, at_least(0), "",
       "weight of each depth in the loss; []: by step_decay"},
      {"train.loss", &c.train.loss, any(), "",
       "kl, reverse_kl, js, ce, tv, lk_alpha, lk_lambda, or a mixture: 0.9 kl + 0.1 tv"},
      {"train.lk_scale", &c.train.lk_scale, between(0, 1), "",
       "lk_lambda: kl weighs lk_scale e^(-lk_decay alpha), tv the rest"},
      {"train.lk_decay", &c.train.lk_decay, at_least(0), "", "lk_lambda: see lk_scale"},
      {"train.depth_keep", &c.train.depth_keep, between(0.05, 1), "probability",
       "a row goes on to the next depth; depth k then costs depth_keep^k, and weighs as before; 1: "
       "every row"},
      {"train.feature_noise", &c.train.feature_noise, at_least(0), "",
       "uniform noise of this size on the captured states"},
      {"train.recompute", &c.train.recompute, any(), "",
       "compute a depth's activations again in the backward: less memory, the same weights up to "
       "the "
       "order of sums"},
      {"train.pack_tokens", &c.train.pack_tokens, at_least(8), "tokens",
       "tokens of one forward pass"},
      {"train.epochs", &c.train.epochs, at_least(1), "", "passes over the data"},
      {"train.max_steps", &c.train.max_steps, at_least(0), "steps",
       "stop here at the latest; 0: after the epochs"},
      {"train.accumulate", &c.train.accumulate, at_least(1), "packs",
       "packs whose gradients make one optimizer step, on each rank that a new run has"},
      {"train.checkpoint_every", &c.train.checkpoint_every, at_least(0), "steps",
       "0: at the end only"},
      {"train.keep_checkpoints", &c.train.keep_checkpoints, at_least(1), "",
       "older ones are removed; best is always kept"},
      {"train.log_every", &c.train.log_every, at_least(1), "steps",
       "a line of metrics.jsonl every so many steps"},
      {"train.seed", &c.train.seed, at_least(0), "", "order of the data and noise"},
      {"train.init_from", &c.train.init_from, any(), "",
       "start from this draft (a checkpoint, or a directory of Aerie, EAGLE, SpecForge, "
       "speculators "
       "or NeMo), with its shape, vocabulary and layers; empty: new weights"},
      {"train.zero", &c.train.zero, between(0, 1), "",
       "several ranks; 0: each keeps all of the optimizer's moments; 1: its share of them (ZeRO "
       "stage 1)"},
      {"train.rank_timeout", &c.train.rank_timeout, at_least(1), "seconds",
       "several ranks: one that the others wait for longer than this ends the run"},

      {"optim.lr", &c.optim.lr, above(0), "", "peak learning rate"},
      {"optim.beta1", &c.optim.beta1, between(0, 0.9999), "", "AdamW, first moment"},
      {"optim.beta2", &c.optim.beta2, between(0, 0.9999), "", "AdamW, second moment"},
      {"optim.eps", &c.optim.eps, above(0), "", "AdamW, added to the denominator"},
      {"optim.weight_decay", &c.optim.weight_decay, at_least(0), "", "AdamW, decoupled"},
      {"optim.clip", &c.optim.clip, above(0), "", "largest norm of all gradients together"},
      {"optim.schedule", &c.optim.schedule, one_of({"constant", "linear", "cosine", "wsd"}), "",
       "course of the learning rate after the warm-up"},
      {"optim.warmup_steps", &c.optim.warmup_steps, at_least(0), "steps",
       "the learning rate rises linearly"},
      {"optim.warmup_ratio", &c.optim.warmup_ratio, between(0, 1), "share of all steps",
       "instead of warmup_steps; 0: warmup_steps"},
      {"optim.decay_ratio", &c.optim.decay_ratio, between(0, 1), "share of all steps",
       "wsd: the learning rate falls in the last of them"},
      {"optim.ema", &c.optim.ema, between(0, 0.99999), "",
       "evaluate and export an average of the weights that keeps this share a step; 0: none"},
      {"optim.final_lr_ratio", &c.optim.final_lr_ratio, between(0, 1), "share of lr",
       "learning rate at the last step"},

      {"eval.every", &c.eval.every, at_least(0), "steps", "0: at the end only"},
      {"eval.prompts", &c.eval.prompts, at_least(0), "",
       "held-out prompts that are decoded to measure acceptance; 0: none"},
      {"eval.patience", &c.eval.patience, at_least(0), "evaluations",
       "so many without a better acceptance end the run; 0: never"},

      {"output.dir", &c.output.dir, required(), "",
       "the run's directory: checkpoints, metrics, report"},

      {"decode.draft_tokens", &c.decode.draft_tokens, between(1, kMostDraftTokens), "tokens",
       "tokens drafted a step"},
      {"decode.tree", &c.decode.tree, any(), "",
       "evaluations decode the prompts again, in trees: acceptance_tree; best is chosen in chains"},
      {"decode.tree_width", &c.decode.tree_width, between(2, kMostTreeWidth), "tokens",
       "tree: so many guesses follow each one"},
      {"decode.tree_nodes", &c.decode.tree_nodes, between(1, kMostTreeNodes), "tokens",
       "tree: the likeliest of them that are verified"},
      {"decode.max_new_tokens", &c.decode.max_new_tokens, at_least(1), "tokens", "longest answer"},
  };
}

}  // namespace

RunConfig read_run_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides, RunConfig config) {
  const schema::Table table = table_of(config);
  if (!file.empty()) schema::read_yaml(read_file(file), file.string(), table);
  for (const std::string& assignment : overrides) schema::apply_override(assignment, table);
  if (config.data.cache.empty() && !config.output.dir.empty()) {
    config.data.cache = config.output.dir / "data";
  }
  if (config.hidden_states.store.empty() && !config.output.dir.empty()) {
    config.hidden_states.store = config.output.dir / "hidden_states";
  }
  return config;
}

RunConfig load_run_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides) {
  RunConfig config = read_run_config(file, overrides);
  schema::check_required(file.string(), table_of(config));
  return config;
}

std::map<std::string, std::string> values_of(const RunConfig& config) {
  RunConfig copy = config;
  return schema::values(table_of(copy));
}

std::string to_yaml(const RunConfig& config) {
  RunConfig copy = config;
  return schema::write_yaml(table_of(copy));
}

std::string describe_run_config() {
  RunConfig defaults;
  return schema::describe(table_of(defaults));
}

}  // namespace aerie
