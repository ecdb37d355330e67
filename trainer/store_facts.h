// What a store of hidden states must have been made from to serve a run.
#pragma once
#include "configs/run_config.h"
#include "data/hidden_format.h"
#include "data/hidden_manifest.h"
#include "draft_models/draft_config.h"

namespace aerie {

/// The shape of the rows: the target's hidden size, the draft's layers, the run's dtype.
HiddenFormat hidden_format(const RunConfig& config, const DraftConfig& draft, at::ScalarType dtype);

/// Target (configuration and weights), tokenizer, data, layers, norm, dtype. `data_key` is
/// TokenShards::key() of the documents. Reads all of the target's weights (trainer/target_hash.h).
StoreFacts store_facts(const RunConfig& config, const DraftConfig& draft, at::ScalarType dtype,
                       const std::string& data_key);

}  // namespace aerie
