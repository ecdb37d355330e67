#include "trainer/run_ranks.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/log.h"
#include "kernels/device.h"
#include "trainer/run_facts.h"

namespace aerie {

std::unique_ptr<Ranks> join_ranks(const RunConfig& config, const RankPlace& place,
                                  const std::string& device) {
  if (place.rank > 0) log_quiet();
  auto ranks = std::make_unique<Ranks>(place, parse_device(device),
                                       std::chrono::seconds(config.train.rank_timeout));
  if (!ranks->alone()) {
    log_info(fmt::format("rank 0 of {} ({} on this machine), optimizer's moments {}", place.ranks,
                         place.local_ranks, config.train.zero ? "shared out" : "on every rank"));
  }
  return ranks;
}

void run_as_rank(Ranks& ranks, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    ranks.give_up(error.what());
    throw;
  }
  ranks.leave();
}

PrepareReport prepare_in_turns(Ranks& ranks, const RankPlace& place,
                               const PrepareOptions& options) {
  constexpr int kTurns = 3;
  const int mine = place.rank == 0 ? 0 : place.local_rank == 0 ? 1 : 2;
  PrepareReport report;
  for (int turn = 0; turn < (ranks.alone() ? 1 : kTurns); ++turn) {
    if (turn == mine) report = prepare(options);
    ranks.gather("");
  }
  return report;
}

int64_t packs_of_step(const RunConfig& config, Ranks& ranks,
                      const std::optional<std::filesystem::path>& checkpoint) {
  const int64_t accumulate = config.train.accumulate;
  int64_t packs = ranks.size() * accumulate;
  if (ranks.first() && checkpoint) {
    const TrainState state = read_state(*checkpoint);
    const auto was = state.facts.find("train.accumulate");
    const bool same = was != state.facts.end() && was->second == fmt::format("{}", accumulate);
    if (same) packs = state.packs_per_step > 0 ? state.packs_per_step : accumulate;
  }
  packs = std::stoll(ranks.share(fmt::format("{}", packs)));
  if (packs != ranks.size() * accumulate) {
    log_info(fmt::format("a step takes {} packs, as it did before: {} rank(s) share them", packs,
                         ranks.size()));
  }
  return packs;
}

void check_same_on_all_ranks(Ranks& ranks, const RunConfig& config, RunFacts facts) {
  const auto text = [](int64_t value) { return fmt::format("{}", value); };
  facts["train.zero"] = text(config.train.zero);
  facts["train.checkpoint_every"] = text(config.train.checkpoint_every);
  facts["eval.every"] = text(config.eval.every);
  facts["data.heldout"] = config.data.heldout.empty() ? "none" : "there";
  const std::vector<std::string> all = ranks.gather(nlohmann::json(facts).dump());
  const auto facts_of = [&](int rank) { return nlohmann::json::parse(all[rank]).get<RunFacts>(); };
  for (int rank = 1; rank < ranks.size(); ++rank) {
    const std::string diff = facts_diff(facts_of(0), facts_of(rank));
    AERIE_CHECK(diff.empty(),
                "rank {} runs something else than rank 0 (\"was\": rank 0, \"is\": rank {}):{}\n"
                "Start all with the same run file, data and target",
                rank, rank, diff);
  }
}

}  // namespace aerie
