// The load benchmark's page.
#include <algorithm>
#include <map>

#include "decoding/load_report.h"
#include "pages/line_plot.h"
#include "pages/page.h"

namespace aerie {
namespace {

using pages::card;
using pages::Curve;
using pages::escape;
using pages::series_color;

std::string load_of(const LoadRun& run) {
  return run.rate > 0 ? fmt::format("{:.3g} requests/s", run.rate)
                      : fmt::format("{} streams", run.streams);
}
std::string name_of(const LoadRun& run) {
  return fmt::format("{}, {} rows", run.policy, run.row_budget);
}

/// Runs of one policy and budget: a line in the plots.
std::vector<std::pair<std::string, std::vector<const LoadRun*>>> families(
    const LoadReport& report) {
  std::vector<std::pair<std::string, std::vector<const LoadRun*>>> all;
  for (const LoadRun& run : report.runs) {
    const auto same = [&](const auto& family) { return family.first == name_of(run); };
    auto at = std::find_if(all.begin(), all.end(), same);
    if (at == all.end()) at = all.insert(at, {name_of(run), {}});
    at->second.push_back(&run);
  }
  return all;
}

template <typename Value>
std::string load_plot(const LoadReport& report, const Value& value) {
  std::vector<Curve> all;
  for (const auto& [name, runs] : families(report)) {
    Curve curve{name, series_color(all.size()), {}, true};
    for (const LoadRun* run : runs) curve.points.push_back({run->tokens_per_second, value(*run)});
    std::sort(curve.points.begin(), curve.points.end(),
              [](const pages::Point& a, const pages::Point& b) { return a.x < b.x; });
    all.push_back(std::move(curve));
  }
  return pages::line_plot(all, {.x_label = "output tokens per second", .from_zero = true});
}

/// Share of the gaps that are at most as long, at the heaviest load of each family.
std::string gap_plot(const LoadReport& report) {
  std::vector<Curve> all;
  for (const auto& [name, runs] : families(report)) {
    std::vector<double> gaps;
    for (const RequestTrace& request : runs.back()->trace.requests) {
      for (size_t i = 1; i < request.token_times.size(); ++i) {
        gaps.push_back(1000 * (request.token_times[i] - request.token_times[i - 1]));
      }
    }
    Curve curve{name, series_color(all.size()), {{0, 0}}};
    for (int percent = 1; percent <= 100 && !gaps.empty(); ++percent) {
      curve.points.push_back({percentile(gaps, percent / 100.0), percent / 100.0});
    }
    all.push_back(std::move(curve));
  }
  return pages::line_plot(all, {.x_label = "time between tokens, ms", .percent = true});
}

/// Rows of the forwards over time: prompts below, kept rows, rejected guesses on top.
std::string timeline(const LoadRun& run) {
  constexpr int kSlices = 150;
  std::array<std::vector<double>, 3> rows;
  for (auto& kind : rows) kind.resize(kSlices);
  const double begin = run.trace.steps.front().begin, whole = run.trace.steps.back().end - begin;
  for (const StepTrace& step : run.trace.steps) {
    const int at = std::min(kSlices - 1, static_cast<int>((step.begin - begin) / whole * kSlices));
    rows[0][at] += static_cast<double>(step.prompt_rows);
    rows[1][at] += static_cast<double>(step.rows - step.prompt_rows - step.rejected_rows);
    rows[2][at] += static_cast<double>(step.rejected_rows);
  }
  std::vector<Curve> all;
  const char* colors[] = {"var(--b)", "var(--d)", "var(--e)"};
  const char* names[] = {"prompts", "kept", "rejected"};
  for (size_t kind = 0; kind < rows.size(); ++kind) {
    Curve curve{names[kind], colors[kind], {}};
    for (int i = 0; i < kSlices; ++i) {
      const double seconds = whole / kSlices;
      curve.points.push_back({(i + 0.5) * seconds, rows[kind][i] / seconds});
    }
    all.push_back(std::move(curve));
  }
  return pages::line_plot(all, {.x_label = "seconds; rows a second", .from_zero = true});
}

std::string table(const LoadReport& report) {
  std::vector<std::vector<std::string>> rows{{"policy", "load", "first token p50 / p95, ms",
                                              "between tokens p50 / p95 / p99, ms", "tokens/s",
                                              "good answers/s", "good"}};
  for (const LoadRun& run : report.runs) {
    rows.push_back(
        {name_of(run), load_of(run),
         fmt::format("{:.0f} / {:.0f}", 1e3 * run.first_token.p50, 1e3 * run.first_token.p95),
         fmt::format("{:.0f} / {:.0f} / {:.0f}", 1e3 * run.between_tokens.p50,
                     1e3 * run.between_tokens.p95, 1e3 * run.between_tokens.p99),
         fmt::format("{:.1f}", run.tokens_per_second), fmt::format("{:.2f}", run.goodput),
         fmt::format("{:.0f} %", 100 * run.good_share)});
  }
  return pages::table(rows);
}

}  // namespace

std::string load_html(const LoadReport& report) {
  std::string subtitle = fmt::format(
      "{} · {} requests a run · {} sequences at a time · good: first token within {:.0f} ms and "
      "{:.0f} "
      "ms between tokens · clock: {}",
      escape(report.target), report.requests, report.max_sequences,
      1e3 * report.goal.first_token_seconds, 1e3 * report.goal.between_tokens_seconds,
      report.clock);
  if (!report.draft.empty()) subtitle += " · draft " + escape(report.draft);
  for (const auto& [name, value] : report.machine) subtitle += " · " + name + " " + escape(value);
  std::string plots =
      card("First token, p50 in ms",
           load_plot(report, [](const LoadRun& run) { return 1e3 * run.first_token.p50; })) +
      card("Between tokens, p99 in ms",
           load_plot(report, [](const LoadRun& run) { return 1e3 * run.between_tokens.p99; })) +
      card("Share of the gaps between tokens at the heaviest load", gap_plot(report)) +
      card("Good answers a second",
           load_plot(report, [](const LoadRun& run) { return run.goodput; }));
  for (const LoadRun& run : report.runs) {
    plots += card("Rows over time: " + name_of(run) + ", " + load_of(run), timeline(run));
  }
  return pages::page("Decoding under load, measured", subtitle,
                     card("Results", table(report)) + pages::grid(plots));
}

}  // namespace aerie
