#include "data/word_cutter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace aerie {
namespace {

using nlohmann::json;

/// The head of a tokenizer.json without its vocabulary, which is nearly all of it: parsing ends
/// where "vocab" begins.
class HeadReader : public json::json_sax_t {
 public:
  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(value); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    key_ = name;
    complete_ = places_.size() == 2 && name == "vocab";
    return !complete_;
  }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

  /// Everything before model.vocab; null if that was not found.
  json head() const { return complete_ ? root_ : json(); }

 private:
  bool put(json value) {
    if (places_.empty()) return false;
    insert(std::move(value));
    return true;
  }
  json* insert(json value) {
    json& place = *places_.back();
    if (place.is_array()) {
      place.push_back(std::move(value));
      return &place.back();
    }
    return &(place[key_] = std::move(value));
  }
  bool open(json value) {
    if (places_.empty()) {
      root_ = std::move(value);
      places_.push_back(&root_);
    } else {
      places_.push_back(insert(std::move(value)));
    }
    return true;
  }
  bool close() {
    places_.pop_back();
    return true;
  }

  json root_;
  std::vector<json*> places_;
  std::string key_;
  bool complete_ = false;
};

// The patterns of Llama 3 and of Qwen 2 and later, as their files spell them.
constexpr const char* kPatterns[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

bool is_byte_level(const json& step, bool use_regex) {
  return step.value("type", "") == "ByteLevel" && !step.value("add_prefix_space", true) &&
         step.value("use_regex", true) == use_regex;
}

bool is_known_split(const json& step) {
  if (step.value("type", "") != "Split" || step.value("behavior", "") != "Isolated" ||
      step.value("invert", true) || !step.contains("pattern")) {
    return false;
  }
  const std::string pattern = step.at("pattern").value("Regex", "");
  return std::find(std::begin(kPatterns), std::end(kPatterns), pattern) != std::end(kPatterns);
}

bool cuts_before_blanks(const json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return false;
  if (is_byte_level(pre_tokenizer, true)) return true;
  const json steps = pre_tokenizer.value("pretokenizers", json::array());
  if (pre_tokenizer.value("type", "") != "Sequence" || steps.size() != 2) return false;
  if (steps[0].value("type", "") == "Digits") return is_byte_level(steps[1], true);
  return is_known_split(steps[0]) && is_byte_level(steps[1], false);
}

/// Added tokens are found before the pre-tokenizer runs: none may look beyond a word's edges.
bool stays_in_a_word(const json& token) {
  return token.at("content").get_ref<const std::string&>().find_first_of(" \n") ==
             std::string::npos &&
         !token.value("lstrip", true) && !token.value("rstrip", true) &&
         !token.value("single_word", true);
}

bool is_visible(char c) { return '!' <= c && c <= '~'; }

/// Whether `text` ends in a character that is no white space. Of those outside ASCII some more than
/// white space are doubted: the blocks that it is spread over.
bool ends_visibly(std::string_view text) {
  if (static_cast<signed char>(text.back()) >= 0) return is_visible(text.back());
  size_t begin = text.size() - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
  const std::string_view last = text.substr(begin);
  return last[0] != '\xC2' && last[0] != '\xE1' && last[0] != '\xE2' && last != "\u3000";
}

bool encodes_words_apart(const json& head) {
  if (!head.is_object() || !head.contains("normalizer")) return false;
  const json &normalizer = head.at("normalizer"), &model = head.at("model");
  const bool harmless =
      normalizer.is_null() || (normalizer.is_object() && normalizer.value("type", "") == "NFC");
  const json added = head.value("added_tokens", json::array());
  return harmless && model.value("type", "") == "BPE" &&
         (!model.contains("dropout") || model.at("dropout").is_null()) &&
         cuts_before_blanks(head.value("pre_tokenizer", json())) &&
         std::all_of(added.begin(), added.end(), stays_in_a_word);
}

}  // namespace

WordCutter::WordCutter(std::vector<std::string> added_tokens) : tokens_(std::move(added_tokens)) {
  std::erase(tokens_, "");
  std::sort(tokens_.begin(), tokens_.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  for (const std::string& token : tokens_) begins_[static_cast<unsigned char>(token[0])] = true;
}

size_t WordCutter::token_at(std::string_view text) const {
  if (!begins_[static_cast<unsigned char>(text[0])]) return 0;
  const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const std::string& token) {
    return text.starts_with(token);
  });
  return found == tokens_.end() ? 0 : found->size();
}

bool WordCutter::begins_word(std::string_view text) const {
  return !text.empty() && is_visible(text[0]) && token_at(text) == 0;
}

bool WordCutter::cuts_at(std::string_view text, size_t at) const {
  const char here = text[at], before = text[at - 1];
  if (here == ' ') return ends_visibly(text.substr(0, at)) || begins_word(text.substr(at + 1));
  // A word begins with a line feed only where an added token, or nothing, is before it.
  if (before == '\n' && is_visible(here) && (at == 1 || ends_visibly(text.substr(0, at - 1))))
    return true;
  return begins_[static_cast<unsigned char>(here)] && token_at(text.substr(at)) > 0;
}

size_t WordCutter::next(std::string_view text) const {
  if (text.empty()) return 0;
  if (const size_t token = token_at(text)) return token;
  size_t at = 1;
  while (at < text.size() && !cuts_at(text, at)) ++at;
  return at;
}

std::optional<WordCutter> find_word_cutter(std::string_view tokenizer_json) {
  HeadReader reader;
  json::sax_parse(tokenizer_json, &reader);
  const json head = reader.head();
  if (!encodes_words_apart(head)) return std::nullopt;
  std::vector<std::string> tokens;
  for (const json& token : head.value("added_tokens", json::array()))
    if (!token.value("normalized", true)) tokens.push_back(token.at("content"));
  return WordCutter(std::move(tokens));
}

}  // namespace aerie
