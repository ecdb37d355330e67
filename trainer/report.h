// What a run writes for people and for scripts.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/trainer.h"

namespace aerie {

/// A line of metrics.jsonl for the steps since the last one: {"kind":"train","step",...}.
nlohmann::ordered_json train_line(const TrainState& state, const UnrollMetrics& metrics,
                                  const StepReport& report);
/// {"kind":"eval","step",...}; "acceptance" and "rate_by_depth" only where decoding measured them,
/// "acceptance_tree" where it guessed in trees too, "domains" only where the held-out rows name
/// theirs.
nlohmann::ordered_json eval_line(const TrainState& state, const Evaluation& evaluation);
/// "loss 2.310  tau 1.82  812 tok/s": behind the progress bar.
std::string progress_note(const UnrollMetrics& metrics, const StepReport& report);
/// "tau_sim 1.82 (.52 .28 .14), acceptance 1.79 measured on 8 prompts"
std::string describe(const Evaluation& evaluation);

}  // namespace aerie
