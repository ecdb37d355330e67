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

/// Runs of one policy and budget: a line in the plots.
std::vector<std::pair<std::string, std::vector<const LoadRun*>>> families(
    const LoadReport& report) {
  std::vector<std::pair<std::string, std::vector<const LoadRun*>>> all;
  for (const LoadRun& run : report.runs) {
    const auto same = [&](const auto& family) { return family.first == policy_label(run); };
    auto at = std::find_if(all.begin(), all.end(), same);
    if (at == all.end()) at = all.insert(at, {policy_label(run), {}});
    at->second.push_back(&run);
  }
  return all;
}

double throughput(const LoadRun& run) { return run.tokens_per_second; }
double offered(const LoadRun& run) {
  return run.rate > 0 ? run.rate : static_cast<double>(run.streams);
}

bool poisson(const LoadRun& run) { return run.rate > 0; }

/// `counts`: which runs are points.
template <typename X, typename Y, typename Counts>
std::string load_plot(const LoadReport& report, const std::string& x_label, const X& x, const Y& y,
                      const Counts& counts) {
  std::vector<Curve> all;
  for (const auto& [name, runs] : families(report)) {
    Curve curve{name, series_color(all.size()), {}, true};
    for (const LoadRun* run : runs) {
      if (counts(*run)) curve.points.push_back({x(*run), y(*run)});
    }
    std::sort(curve.points.begin(), curve.points.end(),
              [](const pages::Point& a, const pages::Point& b) { return a.x < b.x; });
    all.push_back(std::move(curve));
  }
  return pages::line_plot(all, {.x_label = x_label, .from_zero = true});
}

/// Good answers against what was asked for: a plot for each kind of arrivals that there was.
std::string good_cards(const LoadReport& report) {
  std::string cards;
  for (const bool rates : {true, false}) {
    const auto counts = [&](const LoadRun& run) { return poisson(run) == rates; };
    if (std::none_of(report.runs.begin(), report.runs.end(), counts)) continue;
    cards += card("Good answers a second",
                  load_plot(
                      report, rates ? "requests per second" : "streams", offered,
                      [](const LoadRun& run) { return run.goodput; }, counts));
  }
  return cards;
}

/// The highest rate; without rates the most streams.
const LoadRun& heaviest(const std::vector<const LoadRun*>& runs) {
  return **std::max_element(runs.begin(), runs.end(), [](const LoadRun* a, const LoadRun* b) {
    return std::pair(a->rate, a->streams) < std::pair(b->rate, b->streams);
  });
}

/// Share of the gaps that are at most as long, at the heaviest load of each family.
std::string gap_plot(const LoadReport& report) {
  std::vector<Curve> all;
  for (const auto& [name, runs] : families(report)) {
    std::vector<double> gaps;
    for (const RequestTrace& request : heaviest(runs).trace.requests) {
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
  std::vector<std::vector<std::string>> rows{{"load", "policy", "first token p50 / p95 / p99, ms",
                                              "between tokens p50 / p95 / p99, ms", "tokens/s",
                                              "good answers/s", "good"}};
  const auto milliseconds = [](const Percentiles& values) {
    return fmt::format("{:.0f} / {:.0f} / {:.0f}", 1e3 * values.p50, 1e3 * values.p95,
                       1e3 * values.p99);
  };
  for (const LoadRun& run : report.runs) {
    rows.push_back({load_label(run), policy_label(run), milliseconds(run.first_token),
                    milliseconds(run.between_tokens), fmt::format("{:.1f}", run.tokens_per_second),
                    fmt::format("{:.2f}", run.goodput),
                    fmt::format("{:.0f} %", 100 * run.good_share)});
  }
  return pages::table(rows);
}

std::string comparison_card(const LoadReport& report) {
  std::vector<std::vector<std::string>> rows{
      {"load", "policy", "gaps between tokens p99", "good answers/s", "tokens/s"}};
  for (const LoadRun& run : report.runs) {
    const std::optional<Comparison> beside = against_prefill_first(report, run);
    if (!beside) continue;
    rows.push_back({load_label(run), policy_label(run),
                    fmt::format("{:.1f}× shorter", beside->gaps),
                    fmt::format("{:.2f}×", beside->goodput),
                    fmt::format("{:+.1f} %", 100 * (beside->tokens - 1))});
  }
  return rows.size() == 1 ? "" : card("Against prefill-first, same arrivals", pages::table(rows));
}

std::string subtitle(const LoadReport& report) {
  std::string text = fmt::format(
      "{} · {} requests a run · {} sequences at a time · good: first token within {:.0f} ms and "
      "never more than {:.0f} ms a token over 16 tokens in a row · clock: {}",
      escape(report.target), report.requests, report.max_sequences,
      1e3 * report.goal.first_token_seconds, 1e3 * report.goal.between_tokens_seconds,
      report.clock);
  if (!report.draft.empty()) text += " · draft " + escape(report.draft);
  for (const auto& [name, value] : report.settings) text += " · " + name + " " + escape(value);
  for (const auto& [name, value] : report.machine) text += " · " + name + " " + escape(value);
  return text;
}

}  // namespace

std::string load_html(const LoadReport& report) {
  const std::string tokens = "output tokens per second";
  const auto any = [](const LoadRun&) { return true; };
  std::string plots =
      card("First token, p50 in ms",
           load_plot(
               report, tokens, throughput,
               [](const LoadRun& run) { return 1e3 * run.first_token.p50; }, any)) +
      card("Between tokens, p99 in ms",
           load_plot(
               report, tokens, throughput,
               [](const LoadRun& run) { return 1e3 * run.between_tokens.p99; }, any)) +
      card("Share of the gaps between tokens at the heaviest load", gap_plot(report)) +
      good_cards(report);
  for (const LoadRun& run : report.runs) {
    plots += card("Rows over time: " + policy_label(run) + ", " + load_label(run), timeline(run));
  }
  return pages::page("Decoding under load, measured", subtitle(report),
                     card("Results", table(report)) + comparison_card(report) + pages::grid(plots));
}

}  // namespace aerie
