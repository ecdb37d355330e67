#include "trainer/run_report.h"

#include <cmath>

#include "pages/line_plot.h"
#include "pages/page.h"
#include "trainer/run_plots.h"

namespace aerie {
namespace {

using pages::card;
using pages::escape;
using Rows = std::vector<std::vector<std::string>>;

/// "–" for what was not measured.
std::string shown(double value, const char* format = "{:.2f}") {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "–";
}

/// "card", or nothing where there is nothing to draw.
std::string plot_card(const std::string& title, const std::string& plot) {
  return plot.empty() ? "" : card(title, plot);
}

double mean_rate(const RunHistory& run) {
  if (run.train.empty()) return NAN;
  return run.train.back().tokens / std::max(run.train.back().seconds, 1e-9);
}

std::string result_tiles(const RunHistory& run) {
  std::vector<std::string> tiles;
  const EvalPoint* best = run.best();
  if (best && std::isfinite(best->acceptance)) {
    tiles.push_back(pages::tile(
        shown(best->acceptance),
        fmt::format("tokens per target forward, measured at step {:.0f} (best)", best->step)));
  }
  if (best && std::isfinite(best->acceptance_tree)) {
    tiles.push_back(pages::tile(shown(best->acceptance_tree), "the same, guessing in trees"));
  }
  if (best) {
    tiles.push_back(pages::tile(shown(best->tau_sim), "tau_sim of the held-out documents there"));
  }
  if (!run.train.empty()) {
    const TrainPoint& last = run.train.back();
    tiles.push_back(pages::tile(pages::short_number(last.tokens),
                                fmt::format("tokens trained in {:.0f} steps", last.step)));
    tiles.push_back(
        pages::tile(pages::short_number(std::round(mean_rate(run))),
                    fmt::format("tokens a second, over {:.1f} min", last.seconds / 60)));
  }
  return pages::tiles(tiles);
}

std::string plots_of(const RunHistory& run) {
  return pages::grid(plot_card("Acceptance length over steps", acceptance_plot(run)) +
                     plot_card("Acceptance by depth (best evaluation)", depth_plot(run)) +
                     plot_card("Loss by depth", loss_plot(run)) +
                     plot_card("Tokens guessed right, by depth", accuracy_plot(run)) +
                     plot_card("Learning rate", learning_rate_plot(run)) +
                     plot_card("Gradient norm", gradient_plot(run)) +
                     plot_card("Tokens a second", throughput_plot(run)) +
                     plot_card("Where a step's time goes", time_split_plot(run)));
}

std::string domains_of(const RunHistory& run) {
  const EvalPoint* best = run.best();
  if (!best || best->domains.empty()) return "";
  Rows rows{{"domain", "loss", "tau_sim", "measured acceptance"}};
  for (const DomainPoint& domain : best->domains) {
    rows.push_back({domain.name.empty() ? "(none)" : escape(domain.name),
                    shown(domain.loss, "{:.3f}"), shown(domain.tau_sim), shown(domain.acceptance)});
  }
  return card(fmt::format("Held-out documents by domain, at step {:.0f}", best->step),
              pages::table(rows));
}

std::string count_of(const nlohmann::ordered_json& split, const char* key) {
  return pages::short_number(split.at(key).get<double>());
}

std::vector<std::string> split_row(const char* name, const nlohmann::ordered_json& split) {
  const double tokens = split.at("tokens"), supervised = split.at("supervised");
  const auto& lengths = split.at("lengths");
  std::string bad;
  for (const auto& [reason, count] : split.at("bad_rows").items()) {
    bad += fmt::format("{}{} × {}", bad.empty() ? "" : ", ", count.get<int64_t>(), escape(reason));
  }
  return {name,
          count_of(split, "documents"),
          count_of(split, "tokens"),
          fmt::format("{:.1f} %", 100 * supervised / std::max(tokens, 1.0)),
          fmt::format("{} / {} / {} / {}", lengths[0].get<int64_t>(), lengths[1].get<int64_t>(),
                      lengths[2].get<int64_t>(), lengths[3].get<int64_t>()),
          count_of(split, "truncated"),
          bad.empty() ? "none" : bad};
}

std::string data_of(const RunHistory& run) {
  if (!run.data.is_object()) return "";
  Rows rows{{"split", "documents", "tokens", "supervised", "length: median / 90 % / 99 % / largest",
             "cut", "rows left out"}};
  for (const char* name : {"train", "heldout"}) {
    if (run.data.contains(name)) rows.push_back(split_row(name, run.data.at(name)));
  }
  Rows sizes{{"draft vocabulary", "of the supervised tokens, train", "held out"}};
  for (const auto& coverage : run.data.at("vocabulary")) {
    sizes.push_back({fmt::format("{} ids{}", coverage.at("size").get<int64_t>(),
                                 sizes.size() == 1 ? " (this run)" : ""),
                     shown(100 * coverage.at("train").get<double>(), "{:.2f} %"),
                     shown(100 * coverage.value("heldout", NAN), "{:.2f} %")});
  }
  return card("Data", pages::table(rows) + "<br>" +
                          pages::grid(pages::table(sizes) + lengths_plot(run.data.at("train"))));
}

std::string settings_of_run(const RunHistory& run) {
  Rows rows{{"setting", "value"}};
  for (const auto& [key, value] : run.settings) rows.push_back({key, escape(value)});
  return rows.size() == 1 ? ""
                          : "<details class='card'><summary>Settings</summary>" +
                                pages::table(rows) + "</details>";
}

// --- several runs ---

std::string results_table(std::span<const RunHistory> runs) {
  Rows rows{{"run", "steps", "tokens", "loss, held out", "tau_sim", "measured acceptance",
             "best at step", "tokens/s", "minutes"}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunHistory& run = runs[i];
    const EvalPoint* best = run.best();
    const TrainPoint* last = run.train.empty() ? nullptr : &run.train.back();
    rows.push_back({pages::key_of(pages::series_color(i), run.name),
                    last ? fmt::format("{:.0f}", last->step) : "–",
                    last ? pages::short_number(last->tokens) : "–",
                    best ? shown(best->loss, "{:.3f}") : "–", best ? shown(best->tau_sim) : "–",
                    best ? shown(best->acceptance) : "–",
                    best ? fmt::format("{:.0f}", best->step) : "–",
                    shown(std::round(mean_rate(run)), "{:.0f}"),
                    last ? shown(last->seconds / 60, "{:.1f}") : "–"});
  }
  return card("Runs", pages::table(rows));
}

std::string value_of(const RunHistory& run, const std::string& key) {
  for (const auto& [name, value] : run.settings) {
    if (name == key) return value;
  }
  return "";
}

/// Settings in which the runs differ; paths of their own differ always and say nothing.
std::string differences(std::span<const RunHistory> runs) {
  Rows rows{{"setting"}};
  for (const RunHistory& run : runs) rows[0].push_back(escape(run.name));
  std::vector<std::string> keys;
  for (const RunHistory& run : runs) {
    for (const auto& [key, value] : run.settings) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  for (const std::string& key : keys) {
    if (key == "output.dir" || key == "data.cache" || key == "hidden_states.store") continue;
    std::vector<std::string> row{key};
    bool differ = false;
    for (const RunHistory& run : runs) {
      row.push_back(escape(value_of(run, key)));
      differ = differ || value_of(run, key) != value_of(runs[0], key);
    }
    if (differ) rows.push_back(std::move(row));
  }
  return rows.size() == 1 ? "" : card("Settings that differ", pages::table(rows));
}

std::string comparison(std::span<const RunHistory> runs) {
  return results_table(runs) +
         pages::grid(plot_card("Measured acceptance over trained tokens",
                               compare_plot(runs, &EvalPoint::acceptance)) +
                     plot_card("tau_sim of held-out documents over trained tokens",
                               compare_plot(runs, &EvalPoint::tau_sim)) +
                     plot_card("Loss of held-out documents over trained tokens",
                               compare_plot(runs, &EvalPoint::loss)) +
                     plot_card("Training loss over trained tokens", compare_loss_plot(runs))) +
         differences(runs);
}

}  // namespace

std::string run_report(std::span<const RunHistory> runs) {
  const RunHistory& run = runs.front();
  std::string body;
  if (runs.size() > 1) body = comparison(runs) + "<h1>" + escape(run.name) + "</h1><br>";
  body += result_tiles(run) + plots_of(run) + domains_of(run) + data_of(run) + settings_of_run(run);
  std::string names = escape(run.directory.string());
  for (const RunHistory& other : runs.subspan(1)) names += " · " + escape(other.directory.string());
  return pages::page("Training of an EAGLE-3 draft", names, body);
}

}  // namespace aerie
