// aerie bench: decoders against each other, or latencies under load.
#include "cli/decoding_flags.h"

namespace aerie::cli {
namespace {

const std::string kLoadGroup = "Load (--load)";

/// bench has two forms.
struct BenchCommand : Command<BenchFlags> {
  bool under_load = false;
};

void add_load(CLI::App& command, LoadFlags& flags) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    CLI::Option* made =
        command.add_option(name, value, help)->group(kLoadGroup)->capture_default_str();
    return made->delimiter(',');
  };
  option("--policy", flags.policies, "splitfuse, prefill-first, static: each on the same arrivals")
      ->check(known_policies());
  option("--rate", flags.rates, "Poisson arrivals a second");
  option("--streams", flags.streams, "closed loop: requests under way at a time");
  option("--row-budget", flags.row_budget, "rows of one forward")->check(above_zero());
  option("--requests", flags.requests, "of one run")->check(above_zero());
  option("--prompt-tokens", flags.prompt_tokens,
         "made prompts in place of --input, each of one of these lengths, drawn at random")
      ->check(above_zero());
  option("--goal-ttft-ms", flags.goal_first_ms, "a good answer's first token");
  option("--goal-itl-ms", flags.goal_between_ms,
         "a good answer's time between tokens, over any 16 in a row");
  option("--clock-table", flags.clock_table,
         "clock.json of another run: time passes as it says, without a model, the same everywhere");
  option("--seed", flags.seed, "of the arrivals");
  command.add_flag("--measure-clock", flags.measure_clock, "also write clock.json")
      ->group(kLoadGroup);
  add_schedule(command, flags, "--prefix-cache", kLoadGroup);
}

void add_comparison(CLI::App& command, BenchFlags& flags) {
  command.add_option("--draft", flags.draft, "exported draft; without: autoregressive only");
  command.add_option("--limit", flags.limit, "the first so many prompts only; 0: all")
      ->check(zero_or_more())
      ->capture_default_str();
  add_concurrency(command, flags.concurrency);
  add_draft_tokens(command, flags.draft_tokens);
  add_tree(command, flags);
  command.add_flag("--no-fixed", flags.no_fixed,
                   "of the draft only what --adaptive adds: no chains or trees of fixed size");
  command.add_flag("--ngram", flags.ngram, "also guesses from the text itself, without a draft");
  command.add_flag("--diffusion", flags.diffusion, "also exact diffusion, by the target's masks");
  add_diffusion(command, flags);
  add_unverified(command, flags);
  command.add_option("--repeats", flags.repeats, "runs of each; the median counts")
      ->check(above_zero())
      ->capture_default_str();
  command.add_flag("--ignore-eos", flags.ignore_eos, "go on to the longest answer");
  add_limits(command, flags);
}

void compare(const CLI::App& command, const BenchFlags& flags) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group() == kLoadGroup && option->count() > 0) {
      throw CLI::ValidationError(option->get_name(), "is read with --load only");
    }
  }
  if (flags.input.empty()) throw CLI::RequiredError("--input");
  bench_command(flags);
}

void put_under_load(const CLI::App& command, const BenchFlags& given, LoadFlags& load) {
  for (const char* name : {"--limit", "--concurrency", "--no-fixed", "--ngram", "--diffusion",
                           "--unverified", "--repeats"}) {
    if (command.count(name) > 0) throw CLI::ValidationError(name, "is not read with --load");
  }
  if (given.draft_tokens.size() > 1) {
    throw CLI::ValidationError("--draft-tokens", "takes one number with --load");
  }
  static_cast<BenchCommonFlags&>(load) = given;
  load.draft_tokens = given.draft_tokens.front();
  load_command(load);
}

}  // namespace

void add_bench(CLI::App& app) {
  const auto given = std::make_shared<BenchCommand>();
  CLI::App* command =
      app.add_subcommand("bench", "speculative against autoregressive decoding, same prompts");
  add_places(*command, given->flags, "directory for bench.json and report.html").output->required();
  add_comparison(*command, given->flags);
  const auto load = std::make_shared<LoadFlags>();
  command->add_flag(
      "--load", given->under_load,
      "latencies while requests come, in place of the comparison: load.json, report.html");
  add_load(*command, *load);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, load, command] {
    if (given->under_load && !load->clock_table.empty()) {
      apply(given->common);  // no model, hence no target
    } else {
      complete(*command, *given);
    }
    if (given->under_load) {
      put_under_load(*command, given->flags, *load);
    } else {
      compare(*command, given->flags);
    }
  });
}

}  // namespace aerie::cli
