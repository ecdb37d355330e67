// What the processes of one run settle with each other before it begins.
#pragma once
#include <memory>
#include <optional>

#include "data/prepare.h"
#include "kernels/collectives.h"
#include "trainer/checkpoint.h"

namespace aerie {

/// This process among those that its launcher started (kernels/rank_place.h). All but rank 0 log
/// warnings and errors only. Waits until all have come.
std::unique_ptr<Ranks> join_ranks(const RunConfig& config, const RankPlace& place,
                                  const std::string& device);

/// Runs `work`; if it throws, the other ranks are told why this one ends. Then waits for them.
void run_as_rank(Ranks& ranks, const std::function<void()>& work);

/// prepare() on every rank, such that no two write the same files: rank 0, then the first of every
/// other machine, then the rest, who find all of it done.
PrepareReport prepare_in_turns(Ranks& ranks, const RankPlace& place, const PrepareOptions& options);

/// Packs of a step: what the checkpoint's run had, on however many ranks it goes on, as long as
/// train.accumulate is what it was; else train.accumulate on each rank. `checkpoint`: rank 0's.
int64_t packs_of_step(const RunConfig& config, Ranks& ranks,
                      const std::optional<std::filesystem::path>& checkpoint);

/// Throws Error, on every rank, naming the first rank whose facts or schedule differ from rank 0's.
void check_same_on_all_ranks(Ranks& ranks, const RunConfig& config, RunFacts facts);

}  // namespace aerie
