#include "data/speech_row.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "data/conversation.h"

namespace aerie {
namespace {

constexpr std::string_view kBlanks = "[], \t\r\n";  // a JSON list is read as well

[[noreturn]] void fail_ids(const std::string& what) {
  throw RowError("speech is not a list of ids", what);
}

std::vector<int32_t> ids_of_text(std::string_view text, const std::string& file) {
  std::vector<int32_t> ids;
  for (size_t at = 0; (at = text.find_first_not_of(kBlanks, at)) != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kBlanks, at), text.size());
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end)
      fail_ids(
          fmt::format("{} holds \"{}\"", file, text.substr(at, std::min<size_t>(end - at, 20))));
    ids.push_back(id);
    at = end;
  }
  return ids;
}

std::vector<int32_t> ids_of_file(const fs::path& file) {
  try {
    return ids_of_text(read_file(file), file.string());
  } catch (const RowError&) {
    throw;
  } catch (const Error& error) {
    throw RowError("speech cannot be read", error.what());
  }
}

std::vector<int32_t> ids_of(const Json& row, const char* key, const fs::path& directory) {
  if (!row.contains(key)) return {};
  const Json& value = row.at(key);
  if (value.is_string()) return ids_of_file(directory / value.get<std::string>());
  if (!value.is_array()) fail_ids(fmt::format("{} is neither a list nor the name of a file", key));
  for (const Json& id : value)
    if (!id.is_number_integer()) fail_ids(fmt::format("{} holds {}", key, id.dump()));
  return value.get<std::vector<int32_t>>();
}

}  // namespace

SpeechRow parse_speech_row(const Json& row, const fs::path& directory) {
  SpeechRow parsed;
  parsed.text = row.at("text").get<std::string>();
  parsed.prompt_text = row.value("prompt_text", "");
  parsed.prompt_speech = ids_of(row, "prompt_speech", directory);
  parsed.speech = ids_of(row, "speech", directory);
  parsed.cut = row.value("finish_reason", "") == "length";
  if (parsed.text.find_first_not_of(" \t\r\n") == std::string::npos)
    throw RowError("nothing to say", "\"text\" is empty");
  return parsed;
}

Json speech_row_json(const SpeechRow& row, const std::vector<int32_t>& speech,
                     const std::string& finish_reason) {
  Json json = Json::object();
  if (!row.prompt_text.empty()) json["prompt_text"] = row.prompt_text;
  if (!row.prompt_speech.empty()) json["prompt_speech"] = row.prompt_speech;
  json["text"] = row.text;
  json["speech"] = speech;
  json["finish_reason"] = finish_reason;
  return json;
}

}  // namespace aerie
