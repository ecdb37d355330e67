// What makes a run this run and no other.
#pragma once
#include "draft_models/draft_config.h"
#include "trainer/checkpoint.h"

namespace aerie {

/// Everything that decides the weights that a run ends with. A resumed run must agree on all of it;
/// where it writes, how often it saves or evaluates is its own affair.
RunFacts run_facts(const RunConfig& config, const DraftConfig& draft,
                   const std::string& target_fingerprint, const std::string& data_key,
                   const std::string& vocabulary_hash, at::ScalarType dtype);

/// Compares a checkpoint's facts with the run's. Throws Error listing every differing field that
/// `overrides` does not name as "key: was A, is B"; also where an override names no field, or one
/// that the shapes of the weights follow from. -> the fields that differ and are overridden
std::vector<std::string> check_same_run(const std::filesystem::path& checkpoint,
                                        const RunFacts& was, const RunFacts& is,
                                        const std::vector<std::string>& overrides);
/// "\n  key: was A, is B" of every field that differs; "" if none does.
std::string facts_diff(const RunFacts& was, const RunFacts& is);

}  // namespace aerie
