// The load benchmark's page.
#include <algorithm>
#include <map>

#include "decoding/bench_page.h"
#include "decoding/bench_plots.h"
#include "decoding/load_report.h"
#include "decoding/svg.h"

namespace aerie {

namespace {

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

std::string key(const LoadReport& report) {
  std::string html = "<div class='key'>";
  size_t i = 0;
  for (const auto& [name, runs] : families(report)) html += key_of(series_color(i++), name);
  return html + "</div>";
}

template <typename Value>
std::string load_plot(const LoadReport& report, const std::string& y_name, const Value& value) {
  std::vector<svg::Series> all;
  for (const auto& [name, runs] : families(report)) {
    svg::Series series{series_color(all.size()), {}, true};
    for (const LoadRun* run : runs) series.points.push_back({run->tokens_per_second, value(*run)});
    all.push_back(std::move(series));
  }
  return svg::lines(all, "output tokens per second", y_name) + key(report);
}

/// Share of the gaps that are at most as long, at the heaviest load of each family.
std::string gap_plot(const LoadReport& report) {
  std::vector<svg::Series> all;
  for (const auto& [name, runs] : families(report)) {
    std::vector<double> gaps;
    for (const RequestTrace& request : runs.back()->trace.requests) {
      for (size_t i = 1; i < request.token_times.size(); ++i) {
        gaps.push_back(1000 * (request.token_times[i] - request.token_times[i - 1]));
      }
    }
    svg::Series series{series_color(all.size()), {{0, 0}}};
    for (int percent = 1; percent <= 100 && !gaps.empty(); ++percent) {
      series.points.push_back({percentile(gaps, percent / 100.0), static_cast<double>(percent)});
    }
    all.push_back(std::move(series));
  }
  return svg::lines(all, "time between tokens, ms", "% of gaps") + key(report);
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
  std::vector<svg::Series> all;
  const char* colors[] = {"var(--b)", "var(--d)", "var(--e)"};
  for (size_t kind = 0; kind < rows.size(); ++kind) {
    svg::Series series{colors[kind], {}};
    for (int i = 0; i < kSlices; ++i) {
      const double seconds = whole / kSlices;
      series.points.push_back({(i + 0.5) * seconds, rows[kind][i] / seconds});
    }
    all.push_back(std::move(series));
  }
  return svg::lines(all, "seconds", "rows per second") + "<div class='key'>" +
         key_of(colors[0], "prompts") + key_of(colors[1], "kept") + key_of(colors[2], "rejected") +
         "</div>";
}

std::string table(const LoadReport& report) {
  std::string html =
      "<div class='wide'><table><tr><th>policy</th><th>load</th><th>first token p50 / p95, ms</th>"
      "<th>between tokens p50 / p95 / p99, ms</th><th>tokens/s</th><th>good answers/s</th>"
      "<th>good</th></tr>";
  for (const LoadRun& run : report.runs) {
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.0f} / {:.0f}</td><td>{:.0f} / {:.0f} / {:.0f}</td>"
        "<td>{:.1f}</td><td>{:.2f}</td><td>{:.0f} %</td></tr>",
        name_of(run), load_of(run), 1e3 * run.first_token.p50, 1e3 * run.first_token.p95,
        1e3 * run.between_tokens.p50, 1e3 * run.between_tokens.p95, 1e3 * run.between_tokens.p99,
        run.tokens_per_second, run.goodput, 100 * run.good_share);
  }
  return html + "</table></div>";
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
  std::string body = card("Results", table(report)) + "<div class='grid'>";
  body += card("Throughput and first token", load_plot(report, "p50, ms", [](const LoadRun& run) {
                 return 1e3 * run.first_token.p50;
               }));
  body += card("Throughput and time between tokens",
               load_plot(report, "p99, ms",
                         [](const LoadRun& run) { return 1e3 * run.between_tokens.p99; }));
  body += card("Time between tokens at the heaviest load", gap_plot(report));
  body += card("Good answers",
               load_plot(report, "a second", [](const LoadRun& run) { return run.goodput; }));
  for (const LoadRun& run : report.runs) {
    body += card("Rows over time: " + name_of(run) + ", " + load_of(run), timeline(run));
  }
  return page("Aerie load", "Decoding under load, measured", subtitle, body + "</div>");
}

}  // namespace aerie
