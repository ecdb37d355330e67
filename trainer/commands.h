// What the command line calls in this room.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "data/media.h"
#include "draft_models/acceptance.h"
#include "draft_models/draft.h"
#include "target_models/model.h"

namespace aerie {

/// Greedy acceptance of a draft on held-out prompts, as the run file's `decode` says. The trainer
/// knows no decoder: main() hands this in.
using MeasureAcceptance =
    std::function<Acceptance(const TargetModel&, const DraftConfig&, const DraftParams&,
                             const VocabMap&, const std::vector<MediaTokens>& prompts)>;

struct TrainFlags {
  std::string resume = "auto";               ///< auto | never | a checkpoint directory
  std::vector<std::string> resume_override;  ///< fields that may differ from the checkpoint's
  bool dry_run = false;
  std::string device = "cpu", dtype = "bfloat16";
};
void train_command(const RunConfig& config, const TrainFlags& flags,
                   const MeasureAcceptance& measure);

/// What `runs` have written, as one page: the first in full, others compared with it. `output`
/// empty: report.html of the first. Throws Error for a directory that is no run.
void write_run_report(const std::vector<std::filesystem::path>& runs,
                      const std::filesystem::path& output);

struct DumpFlags {
  bool estimate = false;    ///< print the size only
  int part = 0, parts = 1;  ///< this process computes every parts-th pack, from `part` on
  std::string device = "cpu", dtype = "bfloat16";
};
void dump_command(const RunConfig& config, const DumpFlags& flags);

/// vllm | sglang | speculators | gguf
const std::vector<std::string>& export_formats();

struct ExportFlags {
  std::filesystem::path checkpoint;  ///< a checkpoint, or a draft's directory to convert
  std::filesystem::path output;      ///< a directory; gguf: a file
  std::filesystem::path check;       ///< alone: verifies a draft of any dialect
  std::string format = "vllm";
  std::string target;                 ///< directory or name; "": the checkpoint's
  std::filesystem::path target_gguf;  ///< gguf: the target's tokenizer is copied from it
};
void export_command(const ExportFlags& flags);

}  // namespace aerie
