// The benchmark's page: one file, its plots drawn as SVG, readable in light and dark.
#include "decoding/bench_plots.h"
#include "pages/page.h"

namespace aerie {
namespace {

using pages::card;
using pages::escape;
using pages::key_of;
using pages::tile;

std::string table(const BenchReport& report) {
  std::vector<std::vector<std::string>> rows{{"decoder", "at a time", "tokens/s", "speed-up",
                                              "acceptance length", "95 % interval", "tokens",
                                              "outputs"}};
  for (const BenchRun& run : report.runs) {
    rows.push_back(
        {run.label, std::to_string(run.concurrency), fmt::format("{:.1f}", tokens_per_second(run)),
         fmt::format("{:.2f}", run.speedup), fmt::format("{:.2f}", run.acceptance_length),
         fmt::format("{:.2f} – {:.2f}", run.acceptance_ci95[0], run.acceptance_ci95[1]),
         std::to_string(run.tokens), run.identical_outputs ? "equal" : "<b>differ</b>"});
  }
  return pages::table(rows);
}

std::string tiles(const BenchReport& report) {
  const BenchRun* best = &report.runs.front();
  bool equal = true;
  for (const BenchRun& run : report.runs) {
    if (run.speedup > best->speedup) best = &run;
    equal = equal && run.identical_outputs;
  }
  return pages::tiles(
      {tile(fmt::format("{:.2f}×", best->speedup),
            fmt::format("best speed-up: {} at {} at a time", best->label, best->concurrency)),
       tile(fmt::format("{:.2f}", best->acceptance_length), "tokens per target forward there"),
       tile(fmt::format("{:.1f}", tokens_per_second(*best)), "tokens per second there"),
       tile(equal ? "equal" : "differ", "outputs of all runs, token for token")});
}

std::string examples(const BenchReport& report) {
  std::string html;
  for (const BenchExample& example : report.examples) {
    html += fmt::format(
        "<div class='q'><b>{}</b> · acceptance length {:.2f}\n{}</div><div class='out'>",
        escape(example.id), example.acceptance_length, escape(example.prompt));
    for (const TextPiece& piece : example.pieces) {
      html += piece.guessed ? "<mark>" + escape(piece.text) + "</mark>" : escape(piece.text);
    }
    html += "</div>";
  }
  return html;
}

std::string subtitle(const BenchReport& report) {
  std::string text =
      fmt::format("{} · {} prompts of {} · up to {} new tokens{}", escape(report.target),
                  report.runs.front().prompts, escape(report.input), report.max_new_tokens,
                  report.forced_lengths ? ", lengths forced" : "");
  if (!report.draft.empty()) text += " · draft " + escape(report.draft);
  for (const auto& [key, value] : report.machine) text += " · " + key + " " + escape(value);
  return text;
}

}  // namespace

std::string bench_html(const BenchReport& report) {
  const std::string split_key =
      pages::legend(key_of("var(--b)", "target") + key_of("var(--c)", "draft") +
                    key_of("var(--d)", "verify") + key_of("var(--e)", "schedule"));
  std::string plots;
  if (!series_labels(report).empty()) {
    plots += card("Speed-up over autoregressive decoding", speedup_plot(report));
    plots += card("Guesses that held, by depth", depth_plot(report));
  }
  plots += card("Tokens per second (line: slowest to fastest repeat)", throughput_plot(report));
  plots += card("Where the time goes", time_split_plot(report) + split_key);
  return pages::page("Speculative decoding, measured", subtitle(report),
                     tiles(report) + card("Results", table(report)) + pages::grid(plots) +
                         card("Outputs (coloured: the draft had guessed it)", examples(report)));
}

}  // namespace aerie
