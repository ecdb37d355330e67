// What a run will need, from shapes alone.
#pragma once
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "draft_models/draft_config.h"

namespace aerie {

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

/// Resident memory by part, upper bounds: the unroll's activations as if every token of a pack were
/// supervised. `element` bytes of the compute type.
std::vector<MemoryPart> estimate_memory(const ModelConfig& target, const DraftConfig& draft,
                                        const RunConfig& config, int64_t element);
int64_t total_bytes(const std::vector<MemoryPart>& parts);
/// Parameters that train.
int64_t draft_parameters(const DraftConfig& draft);
/// A table, one part a line, with the total.
std::string format_memory(const std::vector<MemoryPart>& parts);

}  // namespace aerie
