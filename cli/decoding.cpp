// aerie resample, generate, bench, serve.
#include "decoding/commands.h"

#include "cli/commands.h"

namespace aerie::cli {
namespace {

/// What the command line was given besides the flags of the room's own struct.
template <typename Flags>
struct Command {
  CommonFlags common;
  Flags flags;
};

/// bench has two forms.
struct BenchCommand : Command<BenchFlags> {
  bool under_load = false;
};

template <typename Flags>
void add_places(CLI::App& command, Flags& flags, const char* output) {
  command.add_option("--target", flags.target,
                     "Hugging Face directory of the target (or target.path of --config)");
  command
      .add_option("--input", flags.input,
                  "prompts: JSON lines of conversations, messages, prompt or turns")
      ->required(!std::is_same_v<Flags, BenchFlags>);
  command.add_option("--output", flags.output, output)->required();
}

template <typename Flags>
void add_limits(CLI::App& command, Flags& flags) {
  command.add_option("--max-new-tokens", flags.max_new_tokens, "longest answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_flag("--json", flags.json, "a machine-readable summary on stdout");
}

template <typename Flags>
void add_sampling(CLI::App& command, Flags& flags) {
  command.add_option("--temperature", flags.temperature, "0: the most likely token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--seed", flags.seed, "of the sampling")->capture_default_str();
}

template <typename Value>
void add_draft_tokens(CLI::App& command, Value& value) {
  command.add_option("--draft-tokens", value, "tokens drafted a step")
      ->delimiter(',')
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
}

void add_tree(CLI::App& command, TreeFlags& flags) {
  command.add_flag("--tree", flags.tree, "guess trees (EAGLE-2) as deep as --draft-tokens");
  command.add_option("--tree-width", flags.tree_width, "tokens tried after each guess of a tree")
      ->check(CLI::Range(2, 32))
      ->capture_default_str();
  command.add_option("--tree-nodes", flags.tree_nodes, "guesses of a tree that are verified")
      ->check(CLI::Range(1, 128))
      ->capture_default_str();
  command.add_flag("--adaptive", flags.adaptive,
                   "guess only as far as it pays, by what held and what a forward costs");
}

void add_diffusion(CLI::App& command, DiffusionFlags& flags) {
  const auto masks = command.add_option("--window", flags.window, "diffusion: masks fed at a time");
  masks->check(CLI::Range(1, 64))->capture_default_str();
  command
      .add_option("--entropy-threshold", flags.entropy_threshold,
                  "diffusion: masks that are surer (nats) are filled; 0: one at a time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--position-penalty", flags.position_penalty,
                  "diffusion: nats more for every place behind the first mask")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_flag("--unverified", flags.unverified,
                   "diffusion: keep what the masks say, another text than the target's own");
  command.add_option("--mask-token", flags.mask_token,
                     "diffusion: token in place of the target's mask; -1: its mask_token_id");
}

template <typename Value>
void add_concurrency(CLI::App& command, Value& value) {
  command.add_option("--concurrency", value, "sequences in one batch")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

CLI::IsMember known_policies() { return CLI::IsMember({"splitfuse", "prefill-first", "static"}); }

/// `prefix`: what the flag of the prefix cache is called.
void add_schedule(CLI::App& command, ScheduleFlags& flags, const std::string& prefix,
                  const std::string& group) {
  const auto grouped = [&](CLI::Option* option) { option->group(group)->capture_default_str(); };
  grouped(
      command.add_option("--max-sequences", flags.max_sequences, "decoded at a time; others wait")
          ->check(CLI::PositiveNumber));
  grouped(command
              .add_option("--inter-token-ms", flags.inter_token_ms,
                          "while answers are decoded, a forward has no more rows than take so long "
                          "here (measured at start); 0: as many as --row-budget")
              ->check(CLI::NonNegativeNumber));
  grouped(command
              .add_option("--kv-tokens", flags.kv_tokens,
                          "tokens that the cache holds; 0: what --max-sequences may need, within "
                          "half of the memory")
              ->check(CLI::NonNegativeNumber));
  grouped(command.add_flag("--evict", flags.evict,
                           "let requests in while there is room for their text so far; where the "
                           "cache runs out, the newest is set back, its output kept"));
  grouped(command.add_flag(prefix, flags.prefix_cache, "prompts that begin alike share the cache"));
}

void add_load(CLI::App& command, LoadFlags& flags) {
  const std::string group = "Load (--load)";
  const auto option = [&](const char* name, auto& value, const char* help) {
    CLI::Option* made = command.add_option(name, value, help)->group(group)->capture_default_str();
    return made->delimiter(',');
  };
  option("--policy", flags.policies, "splitfuse, prefill-first, static: each on the same arrivals")
      ->check(known_policies());
  option("--rate", flags.rates, "Poisson arrivals a second");
  option("--streams", flags.streams, "closed loop: requests under way at a time");
  option("--row-budget", flags.row_budget, "rows of one forward")->check(CLI::PositiveNumber);
  option("--requests", flags.requests, "of one run")->check(CLI::PositiveNumber);
  option("--prompt-tokens", flags.prompt_tokens,
         "made prompts in place of --input, each of one of these lengths, drawn at random")
      ->check(CLI::PositiveNumber);
  option("--goal-ttft-ms", flags.goal_first_ms, "a good answer's first token");
  option("--goal-itl-ms", flags.goal_between_ms,
         "a good answer's time between tokens, over any 16 in a row");
  option("--clock-table", flags.clock_table,
         "clock.json of another run: time passes as it says, without a model, the same everywhere");
  option("--seed", flags.seed, "of the arrivals");
  command.add_flag("--measure-clock", flags.measure_clock, "also write clock.json")->group(group);
  add_schedule(command, flags, "--prefix-cache", group);
}

/// Fills what was not given as a flag from --config and --set, then sets threads and logging.
template <typename Flags, typename FromConfig>
void complete(const CLI::App& command, Command<Flags>& given, const FromConfig& from_config) {
  apply(given.common);
  given.flags.device = given.common.device;
  given.flags.dtype = given.common.dtype;
  if (!given.common.config.empty() || !given.common.set.empty()) {
    const RunConfig config = read_run_config(given.common.config, given.common.set);
    if (given.flags.target.empty()) given.flags.target = config.target.path;
    if constexpr (requires { given.flags.max_new_tokens; }) {
      if (command.count("--max-new-tokens") == 0) {
        given.flags.max_new_tokens = config.decode.max_new_tokens;
      }
    }
    from_config(config);
  }
  if (given.flags.target.empty()) throw CLI::RequiredError("--target, or target.path of --config");
}

void add_serve_limits(CLI::App& command, ServeFlags& flags) {
  const auto option = [&](const char* name, int64_t& value, const char* help) {
    return command.add_option(name, value, help)->capture_default_str();
  };
  option("--row-budget", flags.row_budget,
         "rows of one forward: small answers soon, large prompts fast; 0: 128, or 512 with "
         "--inter-token-ms")
      ->check(CLI::NonNegativeNumber);
  option("--max-requests", flags.max_requests, "running and waiting together; more get status 429")
      ->check(CLI::PositiveNumber);
  option("--max-body-mb", flags.max_body_mb, "largest request; larger ones get status 413")
      ->check(CLI::Range(1, 1024));
  option("--max-model-len", flags.context, "prompt and output together; 0: the model's own")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--drain-seconds", flags.drain_seconds, "for what runs at SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

}  // namespace

void add_resample(CLI::App& app) {
  const auto given = std::make_shared<Command<ResampleFlags>>();
  ResampleFlags& flags = given->flags;
  CLI::App* command =
      app.add_subcommand("resample", "let the target answer the prompts itself: training data");
  add_places(*command, flags, "answers (JSON lines); rows that are there are not made again");
  command->add_option("--limit", flags.limit, "the first so many prompts only; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_concurrency(*command, flags.concurrency);
  add_sampling(*command, flags);
  add_limits(*command, flags);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command] {
    complete(*command, *given, [](const RunConfig&) {});
    resample_command(given->flags);
  });
}

void add_generate(CLI::App& app) {
  const auto given = std::make_shared<Command<GenerateFlags>>();
  GenerateFlags& flags = given->flags;
  CLI::App* command = app.add_subcommand("generate", "answer prompts, with or without a draft");
  add_places(*command, flags, "answers (JSON lines), in input order");
  command->add_option("--draft", flags.draft, "exported draft (for --decoder eagle3)");
  CLI::Option* decoder =
      command->add_option("--decoder", flags.decoder, "default: eagle3 with --draft")
          ->check(CLI::IsMember({"autoregressive", "eagle3", "ngram", "diffusion"}));
  add_draft_tokens(*command, flags.draft_tokens);
  add_tree(*command, flags);
  add_diffusion(*command, flags);
  add_concurrency(*command, flags.concurrency);
  command->add_flag("--ignore-eos", flags.ignore_eos, "go on to the longest answer");
  add_sampling(*command, flags);
  add_limits(*command, flags);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command, decoder] {
    complete(*command, *given, [&](const RunConfig& config) {
      if (command->count("--draft-tokens") == 0) {
        given->flags.draft_tokens = config.decode.draft_tokens;
      }
    });
    if (decoder->count() == 0 && !given->flags.draft.empty()) given->flags.decoder = "eagle3";
    generate_command(given->flags);
  });
}

void add_bench(CLI::App& app) {
  const auto given = std::make_shared<BenchCommand>();
  BenchFlags& flags = given->flags;
  CLI::App* command =
      app.add_subcommand("bench", "speculative against autoregressive decoding, same prompts");
  add_places(*command, flags, "directory for bench.json and report.html");
  command->add_option("--draft", flags.draft, "exported draft; without: autoregressive only");
  command->add_option("--limit", flags.limit, "the first so many prompts only; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_concurrency(*command, flags.concurrency);
  add_draft_tokens(*command, flags.draft_tokens);
  add_tree(*command, flags);
  command->add_flag("--no-fixed", flags.no_fixed,
                    "of the draft only what --adaptive adds: no chains or trees of fixed size");
  command->add_flag("--ngram", flags.ngram, "also guesses from the text itself, without a draft");
  command->add_flag("--diffusion", flags.diffusion, "also exact diffusion, by the target's masks");
  add_diffusion(*command, flags);
  command->add_option("--repeats", flags.repeats, "runs of each; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--ignore-eos", flags.ignore_eos, "go on to the longest answer");
  add_limits(*command, flags);
  const auto load = std::make_shared<LoadFlags>();
  bool& under_load = given->under_load;
  command->add_flag(
      "--load", under_load,
      "latencies while requests come, in place of the comparison: load.json, report.html");
  add_load(*command, *load);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, load, command] {
    if (given->under_load && !load->clock_table.empty()) {
      apply(given->common);  // no model, hence no target
    } else {
      complete(*command, *given, [&](const RunConfig& config) {
        if (command->count("--draft-tokens") == 0) {
          given->flags.draft_tokens = {config.decode.draft_tokens};
        }
      });
    }
    if (!given->under_load) {
      if (given->flags.input.empty()) throw CLI::RequiredError("--input");
      bench_command(given->flags);
      return;
    }
    const BenchFlags& common = given->flags;
    static_cast<TreeFlags&>(*load) = common;
    load->target = common.target;
    load->draft = common.draft;
    load->input = common.input;
    load->output = common.output;
    load->max_new_tokens = common.max_new_tokens;
    load->draft_tokens = common.draft_tokens.front();
    load->ignore_eos = common.ignore_eos;
    load->json = common.json;
    load->device = common.device;
    load->dtype = common.dtype;
    load_command(*load);
  });
}

void add_serve(CLI::App& app) {
  const auto given = std::make_shared<Command<ServeFlags>>();
  ServeFlags& flags = given->flags;
  CLI::App* command =
      app.add_subcommand("serve", "an OpenAI-compatible server, with or without a draft");
  command->add_option("--target", flags.target,
                      "Hugging Face directory of the target (or target.path of --config)");
  command->add_option("--draft", flags.draft, "exported draft: decode speculatively");
  command->add_option("--host", flags.host, "address to listen on")->capture_default_str();
  command->add_option("--port", flags.port, "0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  command->add_option("--served-model-name", flags.name, "default: the target's directory");
  command->add_option("--api-key", flags.api_key, "requests must carry it")
      ->envname("AERIE_API_KEY");
  add_draft_tokens(*command, flags.draft_tokens);
  add_tree(*command, flags);
  command->add_option("--policy", flags.policy, "splitfuse, prefill-first or static")
      ->check(known_policies())
      ->capture_default_str();
  add_schedule(*command, flags, "--prefix-cache,!--no-prefix-cache", "Options");
  add_serve_limits(*command, flags);
  command->add_flag("--json", flags.json, "host, port and model as one line on stdout, once ready");
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command] {
    complete(*command, *given, [&](const RunConfig& config) {
      if (command->count("--draft-tokens") == 0) {
        given->flags.draft_tokens = config.decode.draft_tokens;
      }
    });
    serve_command(given->flags);
  });
}

}  // namespace aerie::cli
