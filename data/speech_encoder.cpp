#include "data/speech_encoder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/files.h"

namespace aerie {
namespace {

int64_t size_of(const Json& config, const char* key, const fs::path& file) {
  AERIE_CHECK(config.contains(key) && config.at(key).is_number_integer(),
              "{}: a target that speaks needs \"{}\": convert the model again", file.string(), key);
  return config.at(key);
}

const SpeechRow& speech_of(const Conversation& conversation) {
  if (!conversation.speech)
    throw RowError(
        "the target speaks",
        "its rows are {\"text\", \"speech\"}, beside which prompt_text and prompt_speech "
        "may stand; this one is a conversation");
  return *conversation.speech;
}

}  // namespace

std::optional<SpeechIds> read_speech_ids(const fs::path& model_dir) {
  const fs::path file = model_dir / "config.json";
  const Json config = read_json_object(file);
  if (!config.contains("speech_token_size")) return std::nullopt;
  return SpeechIds{size_of(config, "speech_token_size", file), size_of(config, "vocab_size", file),
                   size_of(config, "text_vocab_size", file)};
}

SpeechEncoder::SpeechEncoder(const Tokenizer& tokenizer, const SpeechIds& ids)
    : tokenizer_(tokenizer), ids_(ids) {
  AERIE_CHECK(tokenizer.vocab_size() <= ids.text_vocab,
              "the tokenizer has {} ids and the text's embedding {} rows (text_vocab_size in "
              "config.json): they belong to different models",
              tokenizer.vocab_size(), ids.text_vocab);
}

void SpeechEncoder::add_text(const std::string& text, std::vector<int32_t>& ids) const {
  for (const int32_t id : tokenizer_.encode(text).ids)
    ids.push_back(static_cast<int32_t>(ids_.vocab) + id);
}

void SpeechEncoder::add_speech(const std::vector<int32_t>& codes, std::vector<int32_t>& ids) const {
  for (const int32_t id : codes) {
    if (id < 0 || id >= ids_.codes)
      throw RowError("speech id out of range", fmt::format("{} of {} codes", id, ids_.codes));
    ids.push_back(id);
  }
}

std::vector<int32_t> SpeechEncoder::prompt_of(const SpeechRow& row) const {
  std::vector<int32_t> ids{ids_.start()};
  // Each by itself, as they are published: no token spans both.
  add_text(row.prompt_text, ids);
  add_text(row.text, ids);
  ids.push_back(ids_.turn());
  add_speech(row.prompt_speech, ids);
  return ids;
}

EncodedChat SpeechEncoder::encode(Conversation conversation) const {
  if (conversation.tokenised()) return encode_ids(conversation);
  const SpeechRow& row = speech_of(conversation);
  const std::vector<int32_t> codes = codes_of(row.speech);
  if (codes.empty())
    throw RowError("no speech", "\"speech\" is missing or empty: resample the row");
  EncodedChat encoded;
  encoded.ids = prompt_of(row);
  const auto begin = static_cast<int32_t>(encoded.ids.size());
  add_speech(codes, encoded.ids);
  if (!row.cut) encoded.ids.push_back(ids_.end());
  const auto end = static_cast<int32_t>(encoded.ids.size());
  encoded.assistant.assign(encoded.ids.size(), 0);
  std::fill(encoded.assistant.begin() + begin, encoded.assistant.end(), uint8_t{1});
  encoded.turns.push_back({begin, end});
  encoded.text = row.prompt_text + row.text;
  return encoded;
}

EncodedChat SpeechEncoder::encode_ids(const Conversation& conversation) const {
  EncodedChat encoded = encode_tokenised(conversation, ids_.vocab + ids_.text_vocab, false);
  for (size_t i = 0; i < encoded.ids.size(); ++i)
    if (encoded.assistant[i] && encoded.ids[i] >= ids_.vocab)
      throw RowError("token id out of range", fmt::format("{} is supervised, and the target writes "
                                                          "ids below {} only",
                                                          encoded.ids[i], ids_.vocab));
  return encoded;
}

std::vector<int32_t> SpeechEncoder::encode_prompt(const Conversation& conversation) const {
  return prompt_of(speech_of(conversation));
}

std::vector<int32_t> SpeechEncoder::codes_of(std::span<const int32_t> output) const {
  if (!output.empty() && output.back() >= ids_.codes && output.back() < ids_.vocab)
    output = output.first(output.size() - 1);
  return {output.begin(), output.end()};
}

std::string SpeechEncoder::decode(std::span<const int32_t> ids) const {
  const auto first_text = static_cast<int32_t>(ids_.vocab);
  std::string out;
  for (size_t begin = 0, end; begin < ids.size(); begin = end) {
    const bool text = ids[begin] >= first_text;
    std::vector<int32_t> run;
    for (end = begin; end < ids.size() && (ids[end] >= first_text) == text; ++end)
      run.push_back(text ? ids[end] - first_text : ids[end]);
    if (begin > 0) out += ' ';
    out += text ? tokenizer_.decode(run, false) : fmt::format("{}", fmt::join(run, " "));
  }
  return out;
}

std::string SpeechEncoder::fingerprint() const {
  return hash_hex(fmt::format("{} speech {} {} {}", tokenizer_.fingerprint(), ids_.codes,
                              ids_.vocab, ids_.text_vocab));
}

}  // namespace aerie
