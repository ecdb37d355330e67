// aerie bench: autoregressive against speculative decoding, on the same prompts in one process.
#include "decoding/bench.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "decoding/acceptance_count.h"
#include "decoding/autoregressive.h"
#include "decoding/clock.h"
#include "decoding/commands.h"
#include "decoding/flags.h"
#include "decoding/text_target.h"
#include "kernels/machine.h"

namespace aerie {

namespace {

/// A way of decoding, at every concurrency.
struct Entrant {
  std::string decoder, label, short_label;
  int64_t draft_tokens = 0, nodes = 0;
  std::unique_ptr<Decoder> way;
};

/// One configuration with what it has measured so far.
struct Contestant {
  Decoder* decoder;
  BenchRun run;
  std::vector<Completion> outputs;
};

struct Material {
  std::vector<PromptRow> rows;
  std::vector<Request> requests;
  std::optional<StepCost> cost;
};

std::vector<std::pair<std::string, std::string>> machine_facts() {
  const Machine machine = describe_machine();
  return {{"cpu", machine.cpu},
          {"instructions", machine.instructions},
          {"threads", std::to_string(machine.threads)},
          {"read_bandwidth_gb_s", fmt::format("{:.1f}", ops::measure_read_bandwidth() / 1e9)}};
}

void measure(const TextTarget& target, const Material& material, Contestant& contestant) {
  BenchRun& run = contestant.run;
  Engine engine(*target.model, *contestant.decoder,
                {{run.concurrency, kRowBudget},
                 target.pages_for(material.requests, run.concurrency),
                 material.cost});
  const double start = seconds_now();
  std::vector<Completion> outputs = run_requests(engine, material.requests);
  run.seconds.push_back(seconds_now() - start);
  run.counts = engine.counts();
  const TimeSplit& times = engine.times();
  run.time_split.target += times.target;
  run.time_split.draft += times.draft;
  run.time_split.verify += times.verify;
  run.time_split.schedule += times.schedule;
  contestant.outputs = std::move(outputs);
}

// First requests build buffers and touch the weights: they are not part of any figure.
void warm_up(const TextTarget& target, const Material& material, Contestant contestant) {
  Material few;
  for (size_t i = 0; i < std::min<size_t>(2, material.requests.size()); ++i) {
    few.requests.push_back(material.requests[i]);
    few.requests.back().max_new_tokens = std::min<int64_t>(16, few.requests[i].max_new_tokens);
  }
  measure(target, few, contestant);
}

bool same_tokens(const std::vector<Completion>& a, const std::vector<Completion>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Completion& x, const Completion& y) { return x.tokens == y.tokens; });
}

void summarise(Contestant& contestant, const Contestant& baseline) {
  BenchRun& run = contestant.run;
  AcceptanceCount count;
  for (const Completion& completion : contestant.outputs) count.add(completion);
  run.prompts = static_cast<int64_t>(contestant.outputs.size());
  run.tokens = count.tokens();
  run.acceptance_length = count.length();
  run.acceptance_ci95 = count.interval();
  run.accept_rate = count.rate_by_depth();
  TimeSplit& split = run.time_split;
  const double sum = split.target + split.draft + split.verify + split.schedule;
  split = {split.target / sum, split.draft / sum, split.verify / sum, split.schedule / sum};
  if (&contestant == &baseline) return;
  double baseline_tokens = 0;
  for (const Completion& completion : baseline.outputs) {
    baseline_tokens += static_cast<double>(completion.tokens.size());
  }
  // Repeat by repeat: what slowed the machine down for a while slowed both.
  std::vector<double> faster;
  for (size_t i = 0; i < run.seconds.size(); ++i) {
    faster.push_back(baseline.run.seconds[i] / run.seconds[i]);
  }
  run.speedup = median(faster) * static_cast<double>(run.tokens) / baseline_tokens;
}

std::vector<Contestant> line_up(const BenchFlags& flags, const std::vector<Entrant>& entrants) {
  std::vector<Contestant> contestants;
  for (const int64_t concurrency : flags.concurrency) {
    for (const Entrant& entrant : entrants) {
      BenchRun run;
      run.decoder = entrant.decoder;
      run.label = entrant.label;
      run.short_label = entrant.short_label;
      run.draft_tokens = entrant.draft_tokens;
      run.nodes = entrant.nodes;
      run.concurrency = concurrency;
      contestants.push_back({entrant.way.get(), std::move(run), {}});
    }
  }
  return contestants;
}

// Repeats are interleaved: a machine that slows down slows all of them down.
void race(const BenchFlags& flags, const TextTarget& target, const Material& material,
          std::vector<Contestant>& contestants) {
  std::set<const Decoder*> warm;
  for (const Contestant& contestant : contestants) {
    if (warm.insert(contestant.decoder).second) warm_up(target, material, contestant);
  }
  const int64_t total = flags.repeats * static_cast<int64_t>(contestants.size());
  Progress progress("bench", total, "runs");
  int64_t done = 0;
  std::vector<Completion> reference;  // of the first run of all
  for (int64_t repeat = 0; repeat < flags.repeats; ++repeat) {
    for (Contestant& contestant : contestants) {
      measure(target, material, contestant);
      if (reference.empty()) reference = contestant.outputs;
      if (!same_tokens(contestant.outputs, reference)) contestant.run.identical_outputs = false;
      progress.update(++done,
                      fmt::format("{} x{}", contestant.run.label, contestant.run.concurrency));
    }
  }
  progress.finish();
  const Contestant* baseline = nullptr;
  for (Contestant& contestant : contestants) {
    if (contestant.run.decoder == "autoregressive") baseline = &contestant;
    summarise(contestant, *baseline);
  }
}

BenchExample make_example(const TextTarget& target, const Material& material, size_t index,
                          const Completion& completion) {
  BenchExample example;
  example.id = material.rows[index].id;
  const Conversation& conversation = material.rows[index].conversation;
  if (conversation.speech) {
    example.prompt = conversation.speech->text;
  } else if (!conversation.tokenised()) {
    const Json question = prompt_messages(conversation).back()["content"];
    if (question.is_string()) example.prompt = question.get<std::string>();
  }
  AcceptanceCount count;
  count.add(completion);
  example.acceptance_length = count.length();
  const std::vector<uint8_t>& guessed = completion.stats.guessed;
  for (std::string& piece : target.pieces(completion.tokens)) {
    const size_t i = example.pieces.size();
    example.pieces.push_back({std::move(piece), i < guessed.size() && guessed[i]});
  }
  return example;
}

void check_flags(const BenchFlags& flags) {
  AERIE_CHECK(!flags.concurrency.empty(), "--concurrency names no number of sequences");
  AERIE_CHECK(!flags.draft_tokens.empty(), "--draft-tokens names no length");
  AERIE_CHECK(!flags.draft.empty() || !(flags.tree || (flags.adaptive && !flags.ngram)),
              "--tree and --adaptive speculate with a draft: give --draft DIR");
  AERIE_CHECK(!flags.no_fixed || flags.adaptive,
              "--no-fixed leaves nothing to compare without --adaptive");
  AERIE_CHECK(flags.repeats > 0, "--repeats must be at least 1, not {}", flags.repeats);
}

void add_drafts(const BenchFlags& flags, const TargetModel& target,
                std::vector<Entrant>& entrants) {
  const LoadedDraft draft = load_draft(flags.draft, target.config());
  const auto add = [&](const std::string& name, const std::string& label,
                       const std::string& short_label, const Speculation& rule) {
    const int64_t nodes = rule.nodes > 0 ? rule.nodes : rule.draft_tokens;
    entrants.push_back({name, label, short_label, rule.draft_tokens, nodes,
                        make_eagle3_decoder(draft, target, rule)});
  };
  for (const int64_t k : flags.draft_tokens) {
    if (flags.no_fixed) break;
    add("eagle3", fmt::format("EAGLE-3, {} drafts", k), fmt::format("k={}", k), Speculation{k});
  }
  const int64_t deepest = *std::max_element(flags.draft_tokens.begin(), flags.draft_tokens.end());
  if (flags.adaptive) {
    add("eagle3-adaptive", fmt::format("EAGLE-3, up to {} drafts", deepest),
        fmt::format("k≤{}", deepest), Speculation{deepest, 1, 0, true});
  }
  if (!flags.tree) return;
  if (!flags.no_fixed) {
    add("eagle3-tree", fmt::format("EAGLE-3, tree of {}", flags.tree_nodes),
        fmt::format("tree {}", flags.tree_nodes),
        Speculation{deepest, flags.tree_width, flags.tree_nodes});
  }
  if (!flags.adaptive) return;
  add("eagle3-tree-adaptive", fmt::format("EAGLE-3, tree of up to {}", flags.tree_nodes),
      fmt::format("tree≤{}", flags.tree_nodes),
      Speculation{deepest, flags.tree_width, flags.tree_nodes, true});
}

void add_diffusion(const BenchFlags& flags, const TargetModel& target,
                   std::vector<Entrant>& entrants) {
  const auto add = [&](const char* name, const char* label, bool exact) {
    entrants.push_back({name, fmt::format("{}, window {}", label, flags.window),
                        fmt::format("W={}{}", flags.window, exact ? "" : "!"), flags.window, 0,
                        make_diffusion_decoder(diffusion_of(flags, exact), target)});
  };
  add("diffusion", "exact diffusion", true);
  if (flags.unverified) add("diffusion-unverified", "unverified diffusion", false);
}

std::vector<Entrant> find_entrants(const BenchFlags& flags, const TargetModel& target) {
  std::vector<Entrant> entrants;
  entrants.push_back(
      {"autoregressive", "autoregressive", "AR", 0, 0, std::make_unique<AutoregressiveDecoder>()});
  if (!flags.draft.empty()) add_drafts(flags, target, entrants);
  if (flags.ngram) {
    const int64_t k = flags.draft_tokens.front();
    entrants.push_back({"ngram", fmt::format("n-gram, {} drafts", k), fmt::format("n-gram {}", k),
                        k, k, make_ngram_decoder(Speculation{k, 1, 0, flags.adaptive})});
  }
  if (flags.diffusion) add_diffusion(flags, target, entrants);
  return entrants;
}

void print_table(const BenchReport& report) {
  for (const BenchRun& run : report.runs) {
    log_info(
        fmt::format("{:26} x{:<3} {:7.1f} tokens/s  speed-up {:.2f}  acceptance {:.2f}  outputs {}",
                    run.label, run.concurrency, tokens_per_second(run), run.speedup,
                    run.acceptance_length, run.identical_outputs ? "equal" : "DIFFER"));
  }
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double tokens_per_second(const BenchRun& run) {
  return static_cast<double>(run.tokens) / median(run.seconds);
}

void bench_command(const BenchFlags& flags) {
  check_flags(flags);
  make_output_directory(flags.output, "--output");
  Material material{read_prompts(flags.input, flags.limit), {}, {}};
  const TextTarget target(flags.target, flags.device, flags.dtype);
  material.requests =
      make_requests(target, material.rows, {flags.max_new_tokens, 0.0, 0, flags.ignore_eos});
  if (flags.adaptive) material.cost = measure_step_cost(*target.model, kRowBudget);
  const std::vector<Entrant> entrants = find_entrants(flags, *target.model);
  std::vector<Contestant> contestants = line_up(flags, entrants);
  race(flags, target, material, contestants);

  BenchReport report{flags.target.string(),
                     flags.draft.string(),
                     flags.input.string(),
                     machine_facts(),
                     flags.max_new_tokens,
                     flags.ignore_eos,
                     {},
                     {}};
  for (const Contestant& contestant : contestants) report.runs.push_back(contestant.run);
  const Contestant& shown = contestants[std::min<size_t>(1, entrants.size() - 1)];
  for (size_t i = 0; i < std::min<size_t>(6, material.rows.size()); ++i) {
    report.examples.push_back(make_example(target, material, i, shown.outputs[i]));
  }
  const std::string json = bench_json(report).dump(1);
  write_file_atomic(flags.output / "bench.json", json + "\n");
  write_file_atomic(flags.output / "report.html", bench_html(report));
  print_table(report);
  log_info("report: " + (flags.output / "report.html").string());
  if (flags.json) std::printf("%s\n", bench_json(report).dump().c_str());
}

}  // namespace aerie
