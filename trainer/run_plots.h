// The plots of a run's report. "" where the run has nothing to show.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "trainer/run_history.h"

namespace aerie {

/// tau_sim while training and of held-out documents, and acceptance as decoding measured it.
std::string acceptance_plot(const RunHistory& run);
/// Of the best evaluation: chains right up to each depth, and proposals that decoding accepted.
std::string depth_plot(const RunHistory& run);
std::string loss_plot(const RunHistory& run);
std::string accuracy_plot(const RunHistory& run);
std::string learning_rate_plot(const RunHistory& run);
std::string gradient_plot(const RunHistory& run);
std::string throughput_plot(const RunHistory& run);
std::string time_split_plot(const RunHistory& run);
/// Lengths of documents, of one split's report.
std::string lengths_plot(const nlohmann::ordered_json& split);

/// One value of the evaluations of several runs, over trained tokens.
std::string compare_plot(std::span<const RunHistory> runs, double EvalPoint::*value);
std::string compare_loss_plot(std::span<const RunHistory> runs);

}  // namespace aerie
