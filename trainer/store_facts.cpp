#include "trainer/store_facts.h"

#include <fmt/ranges.h>

#include "common/files.h"
#include "trainer/target_hash.h"

namespace aerie {
namespace {

std::string hash_of_files(const fs::path& directory, std::initializer_list<const char*> names) {
  std::string content;
  for (const char* name : names) {
    if (fs::exists(directory / name)) content += read_file(directory / name);
  }
  return hash_hex(content);
}

}  // namespace

HiddenFormat hidden_format(const RunConfig& config, const DraftConfig& draft,
                           at::ScalarType dtype) {
  HiddenFormat format;
  format.hidden = draft.target_hidden;
  format.layers = static_cast<int64_t>(draft.capture_layers.size());
  format.axes = draft.rope.axes();
  format.dtype = dtype;
  format.int8 = config.hidden_states.precision == "int8";
  format.compression = config.hidden_states.compression;
  format.embeds = draft.use_input_embeds;
  return format;
}

StoreFacts store_facts(const RunConfig& config, const DraftConfig& draft, at::ScalarType dtype,
                       const std::string& data_key) {
  const fs::path& target = config.target.path;
  StoreFacts facts{
      {"target.path (its config.json)", hash_of_files(target, {"config.json"})},
      {"target.path (content of its weights)",
       hash_weights(target, weights_cache(config.data.cache))},
      {"target.path (its tokenizer and chat template)",
       hash_of_files(target, {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                              "chat_template.json"})},
      {"data (its content and preparation)", data_key},
      {"draft.layer_ids", fmt::format("{}", draft.capture_layers)},
      {"layer ids count", "outputs of layers, from 0"},
      {"last hidden states are", "after the target's final norm"},
      {"hidden size", fmt::format("{}", draft.target_hidden)},
      {"--dtype", c10::toString(dtype)},
      {"hidden_states.precision", config.hidden_states.precision},
  };
  // A store without them says nothing, as older ones.
  if (draft.use_input_embeds) facts["draft.use_input_embeds"] = "stored";
  return facts;
}

}  // namespace aerie
