// What the command line calls in this room.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "draft_models/acceptance.h"
#include "draft_models/draft.h"
#include "target_models/model.h"

namespace aerie {

/// Greedy chain acceptance of a draft on held-out prompts (token ids). The trainer knows no
/// decoder: main() hands this in.
using MeasureAcceptance =
    std::function<Acceptance(const TargetModel&, const DraftConfig&, const DraftParams&,
                             const VocabMap&, const std::vector<std::vector<int32_t>>& prompts)>;

struct TrainFlags {
  std::string resume = "auto";  ///< auto | never | a checkpoint directory
  bool dry_run = false;
  std::string device = "cpu", dtype = "bfloat16";
};
void train_command(const RunConfig& config, const TrainFlags& flags,
                   const MeasureAcceptance& measure);

struct DumpFlags {
  bool estimate = false;    ///< print the size only
  int part = 0, parts = 1;  ///< this process computes every parts-th pack, from `part` on
  std::string device = "cpu", dtype = "bfloat16";
};
void dump_command(const RunConfig& config, const DumpFlags& flags);

struct ExportFlags {
  std::filesystem::path checkpoint, output, check;  ///< `check` alone verifies a directory
  std::string format = "vllm";                      ///< vllm | sglang
};
void export_command(const ExportFlags& flags);

}  // namespace aerie
