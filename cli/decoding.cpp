// aerie resample, generate, serve.
#include "cli/decoding_flags.h"

namespace aerie::cli {
namespace {

void add_serve_limits(CLI::App& command, ServeFlags& flags) {
  const auto option = [&](const char* name, int64_t& value, const char* help) {
    return command.add_option(name, value, help)->capture_default_str();
  };
  option("--row-budget", flags.row_budget,
         "rows of one forward: small answers soon, large prompts fast; 0: 128, or 512 with "
         "--inter-token-ms")
      ->check(zero_or_more());
  option("--max-requests", flags.max_requests, "running and waiting together; more get status 429")
      ->check(above_zero());
  option("--max-body-mb", flags.max_body_mb, "largest request; larger ones get status 413")
      ->check(CLI::Range(1, 1024));
  option("--max-model-len", flags.context, "prompt and output together; 0: the model's own")
      ->check(zero_or_more());
  command.add_option("--drain-seconds", flags.drain_seconds, "for what runs at SIGTERM")
      ->check(zero_or_more())
      ->capture_default_str();
}

void add_server(CLI::App& command, ResampleFlags& flags) {
  CLI::Option* server = command.add_option(
      "--server", flags.server,
      "http://HOST:PORT/v1 where the target is served (vLLM, SGLang...), in place of --target");
  server->excludes(command.get_option("--target"));
  command.add_option("--model", flags.model, "the server's model, where it has several")
      ->needs(server);
  command.add_option("--api-key", flags.api_key, "of the server")->envname("AERIE_API_KEY");
}

}  // namespace

void add_resample(CLI::App& app) {
  const auto given = std::make_shared<Command<ResampleFlags>>();
  ResampleFlags& flags = given->flags;
  CLI::App* command =
      app.add_subcommand("resample", "let the target answer the prompts itself: training data");
  const Places places =
      add_places(*command, flags, "answers (JSON lines); rows that are there are not made again");
  places.input->required();
  places.output->required();
  command->add_option("--limit", flags.limit, "the first so many prompts only; 0: all")
      ->check(zero_or_more())
      ->capture_default_str();
  add_server(*command, flags);
  add_concurrency(*command, flags.concurrency);
  command
      ->add_option("--temperature", flags.temperature,
                   "0: the most likely token; LEAST,MOST: each row draws its own between them")
      ->delimiter(',')
      ->expected(1, 2)
      ->check(zero_or_more())
      ->capture_default_str();
  add_seed(*command, flags.seed);
  add_limits(*command, flags);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command] {
    complete(*command, *given, given->flags.server.empty());
    resample_command(given->flags);
  });
}

void add_generate(CLI::App& app) {
  const auto given = std::make_shared<Command<GenerateFlags>>();
  GenerateFlags& flags = given->flags;
  CLI::App* command = app.add_subcommand("generate", "answer prompts, with or without a draft");
  const Places places = add_places(*command, flags, "answers (JSON lines), in input order");
  places.input->needs(places.output);
  command
      ->add_option("--prompt", flags.prompt,
                   "one prompt, in place of --input; the answer is printed")
      ->excludes(places.input)
      ->excludes(places.output);
  add_decoder(*command, flags);
  add_unverified(*command, flags);
  add_concurrency(*command, flags.concurrency);
  command->add_flag("--ignore-eos", flags.ignore_eos, "go on to the longest answer");
  add_sampling(*command, flags);
  add_limits(*command, flags);
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command] {
    if (given->flags.prompt.empty() && given->flags.input.empty()) {
      throw CLI::RequiredError("--prompt, or --input with --output");
    }
    complete(*command, *given);
    generate_command(given->flags);
  });
}

void add_serve(CLI::App& app) {
  const auto given = std::make_shared<Command<ServeFlags>>();
  ServeFlags& flags = given->flags;
  CLI::App* command =
      app.add_subcommand("serve", "an OpenAI-compatible server, with or without a draft");
  command->add_option("--target", flags.target,
                      "Hugging Face directory of the target (or target.path of --config)");
  command->add_option("--host", flags.host, "address to listen on")->capture_default_str();
  command->add_option("--port", flags.port, "0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  command->add_option("--served-model-name", flags.name, "default: the target's directory");
  command->add_option("--api-key", flags.api_key, "requests must carry it")
      ->envname("AERIE_API_KEY");
  add_decoder(*command, flags);
  command->add_option("--policy", flags.policy, "splitfuse, prefill-first or static")
      ->check(known_policies())
      ->capture_default_str();
  add_schedule(*command, flags, "--prefix-cache,!--no-prefix-cache", "Options");
  add_serve_limits(*command, flags);
  command->add_flag("--json", flags.json, "host, port and model as one line on stdout, once ready");
  add_config_flags(*command, given->common, false);
  add_common_flags(*command, given->common);
  command->callback([given, command] {
    complete(*command, *given);
    serve_command(given->flags);
  });
}

}  // namespace aerie::cli
