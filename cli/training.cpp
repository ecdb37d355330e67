// aerie prepare, dump, train, report, export.
#include "cli/commands.h"
#include "common/error.h"
#include "decoding/commands.h"
#include "trainer/commands.h"
#include "trainer/run_data.h"

namespace aerie::cli {
namespace {

/// The trainer's evaluation decodes with the engine of decoding/, which the trainer may not know.
MeasureAcceptance measure_with(const RunConfig& config) {
  MeasureFlags flags;
  flags.draft_tokens = config.decode.draft_tokens;
  flags.max_new_tokens = config.decode.max_new_tokens;
  flags.tree = config.decode.tree;
  flags.tree_width = config.decode.tree_width;
  flags.tree_nodes = config.decode.tree_nodes;
  return [flags](const TargetModel& target, const DraftConfig& draft, const DraftParams& params,
                 const VocabMap& vocab, const std::vector<MediaTokens>& prompts) {
    return measure_acceptance(target, draft, params, vocab, prompts, flags);
  };
}

struct TrainCommand {
  CommonFlags common;
  TrainFlags flags;
};

struct DumpCommand {
  CommonFlags common;
  DumpFlags flags;
  std::string part = "1/1";
};

/// "2/3": the second of three.
void parse_part(const std::string& text, DumpFlags& flags) {
  int part = 0, parts = 0, end = 0;
  const bool whole = std::sscanf(text.c_str(), "%d/%d%n", &part, &parts, &end) == 2 &&
                     end == static_cast<int>(text.size());
  AERIE_CHECK(whole && part >= 1 && part <= parts,
              "--part {}: write K/N, process K of N that dump at the same time, as in 1/3", text);
  flags.part = part - 1;
  flags.parts = parts;
}

struct ReportCommand {
  CommonFlags common;
  std::vector<std::filesystem::path> runs;
  std::filesystem::path output;
};

struct ExportCommand {
  CommonFlags common;
  ExportFlags flags;
};

}  // namespace

void add_prepare(CLI::App& app) {
  const auto common = std::make_shared<CommonFlags>();
  CLI::App* command = app.add_subcommand("prepare", "conversations to token shards");
  add_config_flags(*command, *common, true);
  add_config_help(*command);
  add_common_flags(*command, *common);
  command->callback([common] {
    apply(*common);
    prepare(prepare_options(load_run_config(common->config, common->set)));
  });
}

void add_train(CLI::App& app) {
  const auto given = std::make_shared<TrainCommand>();
  CLI::App* command = app.add_subcommand("train", "train a draft as a run file says");
  command
      ->add_option("--resume", given->flags.resume,
                   "auto: go on where the run's directory ends | never: start anew, refused where "
                   "checkpoints lie | a checkpoint's directory")
      ->capture_default_str();
  command
      ->add_option("--resume-override", given->flags.resume_override,
                   "go on although these fields differ from the checkpoint's: optim.lr,optim.clip")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_flag(
      "--dry-run", given->flags.dry_run,
      "resolve everything, run some steps and one evaluation, print memory, time and disk");
  add_config_flags(*command, given->common, true);
  add_config_help(*command);
  add_common_flags(*command, given->common);
  command->callback([given] {
    apply(given->common);
    given->flags.device = given->common.device;
    given->flags.dtype = given->common.dtype;
    const RunConfig config = load_run_config(given->common.config, given->common.set);
    train_command(config, given->flags, measure_with(config));
  });
}

void add_dump(CLI::App& app) {
  const auto given = std::make_shared<DumpCommand>();
  CLI::App* command = app.add_subcommand("dump", "the target's hidden states, to train offline");
  command->add_flag("--estimate", given->flags.estimate, "print how much disk it takes, and end");
  command
      ->add_option("--part", given->part,
                   "K/N: one of N processes, each with its own share of the documents")
      ->capture_default_str();
  add_config_flags(*command, given->common, true);
  add_config_help(*command);
  add_common_flags(*command, given->common);
  command->callback([given] {
    apply(given->common);
    parse_part(given->part, given->flags);
    given->flags.device = given->common.device;
    given->flags.dtype = given->common.dtype;
    dump_command(load_run_config(given->common.config, given->common.set), given->flags);
  });
}

void add_report(CLI::App& app) {
  const auto given = std::make_shared<ReportCommand>();
  CLI::App* command = app.add_subcommand("report", "runs as a page of curves, compared");
  command
      ->add_option("RUN", given->runs,
                   "directories of runs: the first is shown in full, the others beside it")
      ->required();
  command->add_option("--output", given->output, "the page; default: report.html of the first run");
  add_common_flags(*command, given->common);
  command->callback([given] {
    apply(given->common);
    write_run_report(given->runs, given->output);
  });
}

void add_export(CLI::App& app) {
  const auto given = std::make_shared<ExportCommand>();
  CLI::App* command = app.add_subcommand("export", "a checkpoint as a draft that engines load");
  ExportFlags& flags = given->flags;
  CLI::Option* checkpoint = command->add_option(
      "--checkpoint", flags.checkpoint, "runs/<name>/best, or the directory of a draft to convert");
  CLI::Option* output =
      command->add_option("--output", flags.output, "the draft's directory; gguf: its file");
  command
      ->add_option("--format", flags.format,
                   "vllm, sglang: config.json and weights, layer ids as that engine counts them | "
                   "speculators: vLLM starts from it alone | gguf: one file for llama.cpp")
      ->check(CLI::IsMember(export_formats()))
      ->capture_default_str();
  command->add_option("--target", flags.target,
                      "speculators: the target's directory or hub name; gguf: the directory whose "
                      "tokenizer goes into the file; default: the checkpoint's target.path");
  command->add_option("--target-gguf", flags.target_gguf,
                      "gguf: copy the tokenizer from the target's GGUF instead, byte for byte");
  CLI::Option* check =
      command->add_option("--check", flags.check, "verify this draft (directory or .gguf) instead");
  checkpoint->needs(output)->excludes(check);
  output->needs(checkpoint);
  add_common_flags(*command, given->common);
  command->callback([given, checkpoint, check] {
    if (checkpoint->count() + check->count() == 0) {
      throw CLI::RequiredError("--checkpoint with --output, or --check");
    }
    apply(given->common);
    export_command(given->flags);
  });
}

}  // namespace aerie::cli
