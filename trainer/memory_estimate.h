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

struct MemoryFacts {
  int64_t element = 2;          ///< bytes of the compute type
  double supervised_share = 1;  ///< of the tokens: only their rows are unrolled
};

/// Memory by part.
std::vector<MemoryPart> estimate_memory(const ModelConfig& target, const DraftConfig& draft,
                                        const RunConfig& config, const MemoryFacts& facts);
int64_t total_bytes(const std::vector<MemoryPart>& parts);
/// Parameters that train.
int64_t draft_parameters(const DraftConfig& draft);
/// A checkpoint's size on disk.
int64_t checkpoint_bytes(const DraftConfig& draft, const OptimSection& optim);
/// A table, one part a line, with the total.
std::string format_memory(const std::vector<MemoryPart>& parts);

}  // namespace aerie
