// aerie train: a configuration becomes data, a target, a draft and a trainer; then it runs.
#include <fmt/ranges.h>

#include <map>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "draft_models/import_draft.h"
#include "draft_models/servable.h"
#include "draft_models/start.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "trainer/commands.h"
#include "trainer/dry_run.h"
#include "trainer/memory_estimate.h"
#include "trainer/report.h"
#include "trainer/run_data.h"
#include "trainer/run_facts.h"
#include "trainer/run_ranks.h"
#include "trainer/run_sources.h"
#include "trainer/stopwatch.h"
#include "trainer/target_hash.h"
#include "trainer/trainer.h"
#include "trainer/ttt_loss.h"
#include "trainer/warm_start.h"
#include "trainer/wedlm_trainer.h"

namespace aerie {
namespace {

bool has_weights(const fs::path& directory) {
  return fs::exists(directory / "model.safetensors") ||
         fs::exists(directory / "model.safetensors.index.json");
}

void refuse_what_is_not_there(const RunConfig& config) {
  AERIE_CHECK(!config.target.path.empty(), "target.path is empty: name a Hugging Face directory");
  AERIE_CHECK(!config.output.dir.empty(), "output.dir is empty: say where the run goes");
  objective_of(config.train);  // what it refuses is known before anything is computed
  AERIE_CHECK(config.eval.patience == 0 || (config.eval.every > 0 && !config.data.heldout.empty()),
              "eval.patience is {}, and nothing is evaluated while training: set eval.every and "
              "data.heldout",
              config.eval.patience);
}

/// Adds prompts: the held-out documents up to their first assistant token. Where the data name
/// domains, each gives its first, then each its second, and so on.
void add_heldout_prompts(const TokenShards& shards, int64_t count, TrainerParts& parts) {
  std::map<std::string_view, int64_t> seen;
  std::vector<std::pair<int64_t, int64_t>> order;  // turn within the domain, document
  for (int64_t d = 0; d < shards.size(); ++d) {
    const Document document = shards[d];
    if (document.assistant[0] != 0) continue;  // nothing to start from
    order.emplace_back(shards.has_domains() ? seen[document.domain]++ : 0, d);
  }
  std::sort(order.begin(), order.end());
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  for (const auto& [turn, d] : order) {
    const Document document = shards[d];
    const auto answer = std::find(document.assistant.begin(), document.assistant.end(), 1);
    const auto length = answer - document.assistant.begin();
    parts.prompts.push_back({{document.ids.begin(), document.ids.begin() + length},
                             media_before(parse_media_text(document.media), length)});
    if (shards.has_domains()) parts.prompt_domains.emplace_back(document.domain);
  }
}

DraftConfig new_draft_config(const RunConfig& config, const ModelConfig& target) {
  const DraftSection& section = config.draft;
  DraftConfig draft = draft_config_for(target, section.vocab_size, section.layer_ids);
  draft.layers = section.layers;
  draft.qk_norm = section.body == "qwen3";
  draft.fc_norm = section.fc_norm;
  draft.norm_output = section.norm_output;
  draft.norm_before_residual = section.norm_before_residual;
  draft.use_input_embeds = section.use_input_embeds;
  draft.window = section.window;
  return draft;
}

DraftParams initial_params(const RunConfig& config, const DraftConfig& draft,
                           const TargetModel& target, const VocabMap& vocab,
                           const std::optional<LoadedDraft>& initial) {
  if (initial) {
    check_embedding(*initial, target, config.train.init_from);
    return masters_of(*initial);
  }
  DraftStart start;
  if (config.draft.init != "random") start = start_from_head(target, vocab);
  if (config.draft.init == "target")
    start.merge(start_from_layer(draft, target, config.train.seed));
  return init_draft(draft, start, config.train.seed);
}

/// What a run was asked to do, and on which rank.
struct Task {
  const RunConfig& config;
  const TrainFlags& flags;
  const MeasureAcceptance& measure;
  RankPlace place;
  Ranks& ranks;
};

/// Everything a run stands on, in the order in which it is needed.
struct Run {
  Run(const Task& task, const DraftConfig& draft, const std::optional<LoadedDraft>& initial,
      int64_t packs_per_step);

  PreparedData places;
  PrepareReport prepared;
  TokenShards shards;
  std::optional<TokenShards> heldout_shards;
  std::unique_ptr<TargetModel> target;
  VocabMap vocab;
  std::optional<PassingDirectory> passing;  ///< a dry run's store
  std::optional<RunSource> train, heldout;
  std::unique_ptr<Trainer> trainer;
};

Run::Run(const Task& task, const DraftConfig& draft, const std::optional<LoadedDraft>& initial,
         int64_t packs_per_step)
    : places(prepare_options(task.config, initial).output),
      prepared(prepare_in_turns(task.ranks, task.place, prepare_options(task.config, initial))),
      shards(places.train) {
  const RunConfig& config = task.config;
  const at::ScalarType dtype = parse_dtype(task.flags.dtype);
  const auto load = runs_target(config) ? load_target : load_target_head;
  target = load(config.target.path, parse_device(task.flags.device), dtype);
  vocab = make_vocab_map(prepared.vocabulary.draft_to_target, draft.vocab);

  const int64_t epochs = config.train.max_steps > 0 ? 0 : config.train.epochs;
  // A dry run leaves nothing but the prepared tokens behind, so the store that it fills is its own.
  RunConfig sources = config;
  if (task.flags.dry_run && config.hidden_states.mode == "hybrid") {
    passing.emplace(config.hidden_states.store);
    sources.hidden_states.store = passing->path() / "store";
  }
  train.emplace(sources, Split::kTrain, draft, *target, shards, epochs,
                StepShare{task.ranks.rank(), task.ranks.size(), packs_per_step});
  if (!config.data.heldout.empty()) {
    heldout_shards.emplace(places.heldout);
    heldout.emplace(sources, Split::kHeldout, draft, *target, *heldout_shards, 1);
  }
  HiddenStateSource* evaluated = heldout ? &heldout->get() : nullptr;
  TrainerParts parts{config, *target,      draft, vocab, train->get(), evaluated,
                     {},     task.measure, {},    dtype, &task.ranks,  packs_per_step};
  if (heldout_shards) add_heldout_prompts(*heldout_shards, config.eval.prompts, parts);
  const std::string weights =
      fingerprint_target(config.target.path, weights_cache(config.data.cache));
  parts.facts = run_facts(config, draft, weights, shards.key(), prepared.vocabulary.hash, dtype);
  trainer = std::make_unique<Trainer>(std::move(parts),
                                      initial_params(config, draft, *target, vocab, initial));
}

void describe_start(const RunConfig& config, const DraftConfig& draft, const Trainer& trainer,
                    double seconds) {
  log_info(fmt::format(
      "ready after {:.2f} s. Draft: {:.1f} M parameters, vocabulary {} of {}, from the outputs of "
      "layers {} (0-based); unroll {}, packs of {} tokens, {} steps",
      seconds, static_cast<double>(draft_parameters(draft)) / 1e6, draft.draft_vocab, draft.vocab,
      fmt::join(draft.capture_layers, ", "), config.train.unroll, config.train.pack_tokens,
      trainer.total_steps()));
}

void summarize(const RunConfig& config, const Trainer& trainer, const RunTimes& times,
               bool complete) {
  const TrainState& state = trainer.state();
  const double seconds = std::max(state.seconds, 1e-9);
  log_info(fmt::format(
      "{} after {} of {} steps: {} tokens ({} supervised) in {:.1f} min, {:.0f} tokens/s; {} steps "
      "skipped, peak memory {:.2f} GB",
      complete ? "done" : "stopped", state.step, trainer.total_steps(), state.tokens,
      state.supervised, seconds / 60, static_cast<double>(state.tokens) / seconds,
      state.skipped_steps, static_cast<double>(peak_resident_bytes()) / 1e9));
  log_info("where the time of this session went:\n" +
           format_time(time_parts(config.hidden_states.mode, times)));
  if (trainer.last_evaluation()) {
    log_info("held-out: " + describe(*trainer.last_evaluation()));
    log_info(fmt::format("best: step {} with {} {:.2f}", state.best.step, state.best.metric,
                         state.best.value));
  }
  const fs::path& dir = config.output.dir;
  if (!complete) {
    log_info("the same command goes on from here");
  } else {
    const char* chosen = state.best.step >= 0 ? "best" : "latest";
    log_info(fmt::format("next: aerie export --checkpoint {} --output {}", (dir / chosen).string(),
                         (dir / "draft").string()));
  }
}

/// `ready`: seconds until now.
void train(const Task& task, const std::optional<fs::path>& from, double ready, Run& run) {
  Stopwatch watch;
  const RunConfig& config = task.config;
  run.trainer->begin(from, task.flags.resume_override);
  if (from) {
    log_info(fmt::format("resumed from {} at step {}", from->string(), run.trainer->state().step));
  }
  if (task.ranks.first()) describe_run(config, run.prepared);
  const double start = ready + watch.lap();
  const bool complete = run.trainer->run();
  if (!task.ranks.first()) return;
  RunTimes times = run.trainer->times();
  times.start = start;
  watch.lap();
  write_run_report({config.output.dir}, {});
  times.records += watch.lap();
  summarize(config, *run.trainer, times, complete);
}

void run_task(const Task& task) {
  Stopwatch watch;
  const RunConfig& config = task.config;
  const TrainFlags& flags = task.flags;
  const ModelConfig target = read_model_config(config.target.path);
  // The run's directory is rank 0's: the others hear from it what is in a checkpoint, and need not
  // see it.
  std::unique_ptr<DirectoryLock> held;
  if (task.ranks.first() && !flags.dry_run) held = hold_run(config.output.dir);
  std::optional<fs::path> from;
  if (task.ranks.first()) from = resume_from(config.output.dir, flags.resume);
  const fs::path told = task.ranks.share(from ? from->string() : "");
  if (!told.empty() && fs::exists(told / "state.json")) from = told;
  const std::optional<LoadedDraft> initial = initial_draft(config, from);
  const DraftConfig draft = initial ? initial->config : new_draft_config(config, target);
  check_servable(draft, config.draft.serve_with);
  const std::string unlike = fed_otherwise(draft);
  AERIE_CHECK(unlike.empty() || config.draft.serve_with == "any",
              "{}. Leave draft.serve_with ({}) out, or draft.use_input_embeds", unlike,
              config.draft.serve_with);
  check_window(draft, config.train.unroll);
  const at::ScalarType dtype = parse_dtype(flags.dtype);
  if (flags.dry_run && !has_weights(config.target.path)) {
    return dry_run_from_shapes(config, target, draft, dtype);
  }
  if (initial && !from) {
    log_info(fmt::format("starts from {}: its shape, {} tokens of vocabulary and layers {}",
                         config.train.init_from.string(), draft.draft_vocab,
                         fmt::join(draft.capture_layers, ", ")));
  }
  Run run(task, draft, initial, packs_of_step(config, task.ranks, from));
  const double ready = watch.lap();
  describe_start(config, draft, *run.trainer, ready);
  if (flags.dry_run) {
    return dry_run({config, draft, *run.target, run.shards, run.train->get(), *run.trainer, ready});
  }
  train(task, from, ready, run);
}

}  // namespace

void train_command(const RunConfig& config, const TrainFlags& flags,
                   const MeasureAcceptance& measure) {
  refuse_what_is_not_there(config);
  if (config.train.objective == "wedlm") return wedlm_command(config, flags);
  const RankPlace place = rank_place();
  const std::unique_ptr<Ranks> ranks = join_ranks(config, place, flags.device);
  run_as_rank(*ranks, [&] { run_task({config, flags, measure, place, *ranks}); });
}

}  // namespace aerie
