// The benchmark's page: one file, its plots drawn as SVG, readable in light and dark.
#include "decoding/bench_plots.h"

namespace aerie {

namespace {

constexpr const char* kStyle = R"(
:root{--bg:#fafaf8;--card:#fff;--ink:#1c1f24;--soft:#667085;--line:#e4e4df;--a:#94a3b8;--b:#2563eb;
--c:#f59e0b;--d:#10b981;--e:#e11d48;--hit:#bbf7d0}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1d2026;--ink:#e7e9ee;--soft:#98a2b3;
--line:#30343c;--a:#64748b;--b:#60a5fa;--hit:#14532d}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1080px;padding:32px 20px 64px;background:var(--bg);
color:var(--ink);font:15px/1.55 system-ui,sans-serif}h1{font-size:26px;margin:0 0 4px}
h2{font-size:17px;margin:0 0 12px}p.sub{color:var(--soft);margin:0 0 24px}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin-bottom:20px}.card{background:var(--card);
border:1px solid var(--line);border-radius:12px;padding:18px 20px;margin-bottom:20px}
.tile{flex:1;min-width:150px;margin:0}.tile b{display:block;font-size:28px;line-height:1.2}
.tile span{color:var(--soft);font-size:13px}.grid{display:grid;gap:20px;
grid-template-columns:repeat(auto-fit,minmax(430px,1fr))}.grid .card{margin:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;
padding:6px 10px;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500;font-size:13px}
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg text.v{fill:var(--ink);font-weight:600}
.wide{overflow-x:auto}.key{color:var(--soft);font-size:13px;margin-top:8px}
.dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 5px 0 12px}
.out{white-space:pre-wrap;border-left:3px solid var(--line);padding-left:14px;margin:8px 0 22px}
.out mark{background:var(--hit);color:inherit;border-radius:3px}.q{color:var(--soft);white-space:pre-wrap}
)";

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string table(const BenchReport& report) {
  std::string html =
      "<div class='wide'><table><tr><th>decoder</th><th>at a time</th><th>tokens/s</th><th>speed-up"
      "</th><th>acceptance length</th><th>95 % interval</th><th>tokens</th><th>outputs</th></tr>";
  for (const BenchRun& run : report.runs) {
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.1f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f} – {:.2f}"
        "</td><td>{}</td><td>{}</td></tr>",
        run.label, run.concurrency, tokens_per_second(run), run.speedup, run.acceptance_length,
        run.acceptance_ci95[0], run.acceptance_ci95[1], run.tokens,
        run.identical_outputs ? "equal" : "<b>differ</b>");
  }
  return html + "</table></div>";
}

std::string tiles(const BenchReport& report) {
  const BenchRun* best = &report.runs.front();
  bool equal = true;
  for (const BenchRun& run : report.runs) {
    if (run.speedup > best->speedup) best = &run;
    equal = equal && run.identical_outputs;
  }
  const auto tile = [](const std::string& value, const std::string& label) {
    return fmt::format("<div class='card tile'><b>{}</b><span>{}</span></div>", value, label);
  };
  return "<div class='cards'>" +
         tile(fmt::format("{:.2f}×", best->speedup),
              fmt::format("best speed-up: {} at {} at a time", best->label, best->concurrency)) +
         tile(fmt::format("{:.2f}", best->acceptance_length), "tokens per target forward there") +
         tile(fmt::format("{:.1f}", tokens_per_second(*best)), "tokens per second there") +
         tile(equal ? "equal" : "differ", "outputs of all runs, token for token") + "</div>";
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

std::string card(const std::string& title, const std::string& body) {
  return "<div class='card'><h2>" + title + "</h2>" + body + "</div>";
}

std::string key_of(const std::string& color, const std::string& label) {
  return fmt::format("<span class='dot' style='background:{}'></span>{}", color, label);
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
  const std::vector<std::string> labels = series_labels(report);
  std::string depth_key = "<div class='key'>";
  for (size_t i = 0; i < labels.size(); ++i) depth_key += key_of(series_color(i), labels[i]);
  depth_key += "</div>";
  const std::string split_key = "<div class='key'>" + key_of("var(--b)", "target") +
                                key_of("var(--c)", "draft") + key_of("var(--d)", "verify") +
                                key_of("var(--e)", "schedule") + "</div>";
  std::string html =
      "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
      "content='width=device-width'><title>Aerie bench</title><style>";
  html += kStyle;
  html += "</style><h1>Speculative decoding, measured</h1><p class='sub'>" + subtitle(report) +
          "</p>" + tiles(report) + card("Results", table(report));
  html += "<div class='grid'>";
  if (!labels.empty()) {
    html += card("Speed-up over autoregressive decoding", speedup_plot(report));
    html += card("Guesses that held, by depth", depth_plot(report) + depth_key);
  }
  html += card("Tokens per second (line: slowest to fastest repeat)", throughput_plot(report));
  html += card("Where the time goes", time_split_plot(report) + split_key);
  html += "</div><br>";
  html += card("Outputs (coloured: the draft had guessed it)", examples(report));
  return html + "</html>\n";
}

}  // namespace aerie
