#include "data/gguf_tokenizer.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "common/error.h"
#include "common/files.h"
#include "data/json.h"
#include "data/tokenizer.h"

namespace aerie {
namespace {

// llama.cpp's kinds of token.
constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
constexpr const char* kTokens = "tokenizer.ggml.tokens";

bool mentions_byte_level(const Json& part) {
  return part.is_object() && part.dump().find("\"ByteLevel\"") != std::string::npos;
}

void require_byte_level_bpe(const Json& tokenizer, const std::string& file) {
  const Json model = tokenizer.value("model", Json::object());
  const bool byte_level = mentions_byte_level(tokenizer.value("pre_tokenizer", Json())) ||
                          mentions_byte_level(tokenizer.value("decoder", Json()));
  AERIE_CHECK(model.value("type", "") == "BPE" && byte_level,
              "{}: a {} tokenizer, and only byte-level BPE can be written from here: convert the "
              "target with llama.cpp's converter and give it as --target-gguf, so that its "
              "tokenizer is copied",
              file, model.value("type", "unknown"));
}

std::vector<std::string> read_merges(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : model.at("merges")) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  return merges;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> kinds;
};

Tokens list_tokens(const Json& model, const Tokenizer& tokenizer, int64_t vocab) {
  Tokens tokens;
  for (int64_t id = 0; id < vocab; ++id) {
    tokens.texts.push_back(fmt::format("[PAD{}]", id));
    tokens.kinds.push_back(kUnused);
  }
  const auto put = [&](int64_t id, const std::string& text, int32_t kind) {
    AERIE_CHECK(id >= 0 && id < vocab,
                "the tokenizer has id {} and the draft's target {} tokens: the tokenizer belongs "
                "to another target",
                id, vocab);
    tokens.texts[static_cast<size_t>(id)] = text;
    tokens.kinds[static_cast<size_t>(id)] = kind;
  };
  for (const auto& [text, id] : model.at("vocab").items()) put(id.get<int64_t>(), text, kNormal);
  for (const AddedToken& added : tokenizer.added_tokens()) {
    put(added.id, added.text, added.special ? kControl : kUserDefined);
  }
  return tokens;
}

/// The id of a role ("bos", "eos", ...): tokenizer_config.json names its text, config.json its id.
std::optional<int64_t> special_id(const std::string& role, const Json& settings, const Json& config,
                                  const Tokenizer& tokenizer) {
  const Json named = settings.value(role + "_token", Json());
  const Json text = named.is_object() ? named.value("content", Json()) : named;
  if (text.is_string()) {
    const auto id = tokenizer.token_to_id(text.get<std::string>());
    if (id) return *id;
  }
  const Json id = config.value(role + "_token_id", Json());
  if (id.is_number_integer()) return id.get<int64_t>();
  if (id.is_array() && !id.empty()) return id.at(0).get<int64_t>();
  return std::nullopt;
}

}  // namespace

GgufMetadata hf_tokenizer_keys(const fs::path& model_dir, int64_t vocab) {
  const fs::path file = model_dir / "tokenizer.json";
  AERIE_CHECK(fs::exists(file),
              "{} does not exist: a draft for llama.cpp carries its target's tokenizer; give the "
              "target's directory (--target) or its GGUF (--target-gguf)",
              file.string());
  const Tokenizer tokenizer(model_dir);
  const Json json = read_json_object(file);
  require_byte_level_bpe(json, file.string());
  const Json settings = read_json_object(model_dir / "tokenizer_config.json");
  const Json config = read_json_object(model_dir / "config.json");
  const Json& model = json.at("model");
  const Tokens tokens = list_tokens(model, tokenizer, vocab);

  GgufMetadata keys{{"tokenizer.ggml.model", GgufValue::text("gpt2")},
                    {"tokenizer.ggml.pre", GgufValue::text("default")},
                    {kTokens, GgufValue::texts(tokens.texts)},
                    {"tokenizer.ggml.token_type", GgufValue::i32s(tokens.kinds)},
                    {"tokenizer.ggml.merges", GgufValue::texts(read_merges(model))}};
  const std::pair<const char*, const char*> roles[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}};
  for (const auto& [role, name] : roles) {
    const auto id = special_id(role, settings, config, tokenizer);
    if (id && *id < vocab) {
      keys.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", name),
                        GgufValue::u32(static_cast<uint32_t>(*id)));
    }
  }
  for (const char* flag : {"add_bos_token", "add_eos_token"}) {
    const Json value = settings.value(flag, Json());
    if (value.is_boolean()) {
      keys.emplace_back(fmt::format("tokenizer.ggml.{}", flag),
                        GgufValue::boolean(value.get<bool>()));
    }
  }
  return keys;
}

GgufMetadata gguf_tokenizer_keys(const GgufFile& target, int64_t vocab) {
  const std::string file = target.path().string();
  AERIE_CHECK(target.has(kTokens), "{}: the key \"{}\" is missing: this GGUF has no tokenizer",
              file, kTokens);
  const int64_t tokens = target.array_size(kTokens);
  AERIE_CHECK(tokens == vocab,
              "{}: \"{}\" has {} tokens and the draft's \"vocab_size\" is {}: the draft was made "
              "for another target",
              file, kTokens, tokens, vocab);
  GgufMetadata keys;
  for (const auto& [key, value] : target.metadata()) {
    if (key.starts_with("tokenizer.")) keys.emplace_back(key, value);
  }
  return keys;
}

}  // namespace aerie
