// What the command line calls in this room.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "draft_models/draft.h"
#include "target_models/model.h"

namespace aerie {

/// Measured acceptance of a draft on held-out prompts, by the decoder; the trainer knows no
/// decoder, main() hands it in.
struct Acceptance {
  double length = 0;  ///< tokens emitted per target forward
  std::vector<double>
      rate_by_depth;  ///< share of proposals accepted at depth k, given that it was reached
};
using MeasureAcceptance = std::function<Acceptance(const TargetModel&, const DraftConfig&,
                                                   const DraftParams&, const VocabMap&)>;

struct TrainFlags {
  std::string resume = "auto";  ///< auto | never | a checkpoint directory
  bool dry_run = false;
  std::string device = "cpu", dtype = "bfloat16";
};
void train_command(const RunConfig& config, const TrainFlags& flags,
                   const MeasureAcceptance& measure);

struct ExportFlags {
  std::filesystem::path checkpoint, output, check;  ///< `check` alone verifies a directory
  std::string format = "vllm";                      ///< vllm | sglang
};
void export_command(const ExportFlags& flags);

}  // namespace aerie
