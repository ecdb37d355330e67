// aerie train with train.objective wedlm: data, a target that learns, a run.
#include "common/error.h"
#include "common/log.h"
#include "kernels/dtype.h"
#include "kernels/rank_place.h"
#include "trainer/metrics.h"
#include "trainer/run_data.h"
#include "trainer/run_facts.h"
#include "trainer/stopwatch.h"
#include "trainer/wedlm_trainer.h"

namespace aerie {
namespace {

void refuse_what_wedlm_lacks(const RunConfig& config, const TrainFlags& flags) {
  AERIE_CHECK(rank_place().ranks == 1,
              "train.objective wedlm trains in one process, and the launcher started {}",
              rank_place().ranks);
  AERIE_CHECK(flags.device == "cpu",
              "train.objective wedlm trains on the CPU: leave out --device {}", flags.device);
  AERIE_CHECK(config.train.init_from.empty(),
              "train.init_from names a draft, and train.objective wedlm trains the target: set "
              "target.path to what it is to start from");
}

void try_steps(const RunConfig& config, WedlmTrainer& trainer) {
  DualStreamLoss found;
  trainer.step(found);  // the first one builds buffers
  Stopwatch watch;
  const bool trained = trainer.step(found);
  const double seconds = watch.lap();
  log_info(fmt::format(
      "dry run: {} steps of packs of {} tokens, {:.2f} s a step here ({:.1f} min in all), resident "
      "{:.0f} MB, loss {:.3f}; no checkpoint was written",
      trainer.total_steps(), config.train.pack_tokens, trained ? seconds : 0.0,
      trained ? seconds * static_cast<double>(trainer.total_steps()) / 60 : 0.0,
      static_cast<double>(peak_resident_bytes()) / 1e6, found.loss()));
}

}  // namespace

void wedlm_command(const RunConfig& config, const TrainFlags& flags) {
  refuse_what_wedlm_lacks(config, flags);
  std::unique_ptr<DirectoryLock> held;
  if (!flags.dry_run) held = hold_run(config.output.dir);
  const PrepareOptions options = prepare_options(config);
  const PrepareReport prepared = prepare(options);
  const PreparedData places(options.output);
  const TokenShards train(places.train);
  std::optional<TokenShards> heldout;
  if (!config.data.heldout.empty()) heldout.emplace(places.heldout);
  const at::ScalarType dtype = parse_dtype(flags.dtype);
  const std::string weights =
      fingerprint_target(config.target.path, weights_cache(config.data.cache));
  WedlmTrainer trainer(
      {config, train, heldout ? &*heldout : nullptr,
       run_facts(config, {}, weights, train.key(), prepared.vocabulary.hash, dtype), dtype});
  if (flags.dry_run) return try_steps(config, trainer);
  const std::optional<fs::path> from = resume_from(config.output.dir, flags.resume);
  if (from) {
    trainer.resume(*from, flags.resume_override);
    log_info(fmt::format("resumed from {} at step {}", from->string(), trainer.state().step));
  }
  describe_run(config, prepared);
  const bool complete = trainer.run();
  const TrainState& state = trainer.state();
  log_info(
      fmt::format("{} after {} of {} steps, {} tokens in {:.1f} min, {:.0f} tokens/s; next: "
                  "aerie generate --decoder diffusion --target {}",
                  complete ? "done" : "stopped: the same command goes on", state.step,
                  trainer.total_steps(), state.tokens, state.seconds / 60,
                  static_cast<double>(state.tokens) / std::max(state.seconds, 1e-9),
                  (config.output.dir / "latest/target").string()));
}

}  // namespace aerie
