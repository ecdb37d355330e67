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

/// A short word for a Hugging Face directory's config and weights: hash of config.json and of the
/// size and header of every weight file. Costs no reading of weights.
std::string fingerprint_target(const std::filesystem::path& directory);

}  // namespace aerie
