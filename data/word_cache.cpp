#include "data/word_cache.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"

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

/// Added tokens are found before the pre-tokenizer runs: none may look beyond a word's end.
bool stays_in_a_word(const json& token) {
  return token.at("content").get<std::string>().find(' ') == std::string::npos &&
         !token.value("rstrip", true) && !token.value("single_word", true);
}

/// A set for the lifetime of the object, unless another thread has it.
class Claim {
 public:
  explicit Claim(std::atomic<bool>& taken)
      : taken_(taken), mine_(!taken.exchange(true, std::memory_order_acquire)) {}
  ~Claim() {
    if (mine_) taken_.store(false, std::memory_order_release);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  bool mine() const { return mine_; }

 private:
  std::atomic<bool>& taken_;
  bool mine_;
};

}  // namespace

bool encodes_words_apart(std::string_view tokenizer_json) {
  HeadReader reader;
  json::sax_parse(tokenizer_json, &reader);
  const json head = reader.head();
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

size_t next_word(std::string_view text) {
  for (size_t at = text.find(' ', 1); at < text.size(); at = text.find(' ', at + 1)) {
    const char before = text[at - 1];
    if ('!' <= before && before <= '~') return at;
  }
  return text.size();
}

WordCache::WordCache() : sets_(kSets), entries_(kSets * kWays) {}

bool WordCache::Entry::is(std::string_view text, uint32_t hash_of_text) const {
  return hash == hash_of_text && text == std::string_view(word, size);
}

bool WordCache::append(std::string_view word, uint32_t begin, Encoding& encoding) {
  if (word.empty() || word.size() > kLongestWord) return false;
  const size_t hash = std::hash<std::string_view>{}(word), set = hash % kSets;
  const Claim claim(sets_[set].taken);
  if (!claim.mine()) return false;
  const Entry* way = &entries_[set * kWays];
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const Entry* found =
      std::find_if(way, way + kWays, [&](const Entry& e) { return e.is(word, tag); });
  if (found == way + kWays) return false;
  for (size_t i = 0; i < found->tokens; ++i) {
    encoding.ids.push_back(found->ids[i]);
    encoding.offsets.push_back({begin + found->begins[i], begin + found->ends[i]});
  }
  return true;
}

void WordCache::put(std::string_view word, const Encoding& encoding) {
  const size_t tokens = encoding.ids.size();
  if (word.empty() || word.size() > kLongestWord || tokens > kMostTokens) return;
  const size_t hash = std::hash<std::string_view>{}(word), set = hash % kSets;
  const Claim claim(sets_[set].taken);
  if (!claim.mine()) return;
  Entry& entry = entries_[set * kWays + sets_[set].next];
  sets_[set].next = static_cast<uint8_t>((sets_[set].next + 1) % kWays);
  entry.hash = static_cast<uint32_t>(hash >> 32);
  entry.size = static_cast<uint8_t>(word.size());
  entry.tokens = static_cast<uint8_t>(tokens);
  word.copy(entry.word, word.size());
  for (size_t i = 0; i < tokens; ++i) {
    entry.ids[i] = encoding.ids[i];
    entry.begins[i] = static_cast<uint8_t>(encoding.offsets[i][0]);
    entry.ends[i] = static_cast<uint8_t>(encoding.offsets[i][1]);
  }
}

}  // namespace aerie
