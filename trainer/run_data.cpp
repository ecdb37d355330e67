#include "trainer/run_data.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"

namespace aerie {

PrepareOptions prepare_options(const RunConfig& config) {
  return prepare_options(config, initial_draft(config, std::nullopt));
}

PrepareOptions prepare_options(const RunConfig& config, const std::optional<LoadedDraft>& initial) {
  PrepareOptions options;
  options.train = config.data.train;
  if (!config.data.heldout.empty()) options.heldout = {config.data.heldout};
  options.model_dir = config.target.path;
  options.output = config.data.cache.empty() ? config.output.dir / "data" : config.data.cache;
  options.chat.last_turn_only = config.data.last_turn_only;
  options.chat.keep_reasoning = config.data.reasoning;
  options.chat.assistant_header = config.data.assistant_header;
  options.chat.end_of_turn = config.data.end_of_turn;
  options.chat.variables = config.data.variables;
  options.max_length = config.data.max_length;
  options.draft_vocab = config.draft.vocab_size;
  options.max_bad_rows = config.data.max_bad_rows;
  if (initial) options.vocabulary = vocabulary_of(*initial);
  return options;
}

void refuse_untrainable(const RunConfig& config) {
  fail(
      "the data hold no token to train on within the first {} of a document (train.pack_tokens "
      "cuts "
      "what is longer): no answer begins there, or none is followed by another token. Raise "
      "train.pack_tokens beyond the prompts",
      config.train.pack_tokens);
}

void describe_run(const RunConfig& config, const PrepareReport& prepared) {
  const std::filesystem::path& run = config.output.dir;
  std::filesystem::create_directories(run);
  write_file_atomic(run / "config.yaml", to_yaml(config));
  write_file_atomic(run / "data.json", to_json(prepared).dump(2) + "\n");
}

}  // namespace aerie
