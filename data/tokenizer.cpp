#include "data/tokenizer.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/hf_text.h"
#include "data/word_cache.h"

namespace aerie {

void Tokenizer::Release::operator()(HfTokenizer* handle) const { hf_tokenizer_free(handle); }

namespace {

Encoding to_encoding(HfEncoding raw) {
  Encoding out;
  out.ids.assign(raw.ids, raw.ids + raw.size);
  out.offsets.resize(raw.size);
  for (size_t i = 0; i < raw.size; ++i) out.offsets[i] = {raw.offsets[i][0], raw.offsets[i][1]};
  hf_encoding_free(raw);
  return out;
}

std::vector<AddedToken> read_added_tokens(const HfTokenizer* handle) {
  HfBytes json{};
  hf_check(hf_tokenizer_added_tokens(handle, &json), "tokenizer");
  std::vector<AddedToken> tokens;
  for (const auto& row : nlohmann::json::parse(hf_string(json))) {
    tokens.push_back({row.at("id"), row.at("content"), row.at("special")});
  }
  return tokens;
}

}  // namespace

Tokenizer::Tokenizer(const fs::path& path) {
  AERIE_CHECK(fs::exists(path),
              "{} does not exist: give a model's directory (config.json, *.safetensors, "
              "tokenizer.json)",
              path.string());
  const fs::path file = fs::is_directory(path) ? path / "tokenizer.json" : path;
  AERIE_CHECK(
      fs::exists(file),
      "{} does not exist. A model directory needs tokenizer.json (save the tokenizer with a recent "
      "transformers to get one)",
      file.string());
  const std::string json = read_file(file);
  handle_.reset(hf_tokenizer_new(json.data(), json.size()));
  AERIE_CHECK(handle_, "{}: not a tokenizer: {}", file.string(), hf_error());
  added_tokens_ = read_added_tokens(handle_.get());
  vocab_size_ = static_cast<int64_t>(hf_tokenizer_vocab_size(handle_.get()));
  fingerprint_ = hash_hex(json);
  cutter_ = find_word_cutter(json);
  if (cutter_) words_ = std::make_unique<WordCache>();
}

Tokenizer::~Tokenizer() = default;

Encoding Tokenizer::encode(std::string_view text, bool add_special) const {
  if (add_special || !cutter_) return encode_whole(text, add_special);
  Encoding encoding;
  encoding.ids.reserve(text.size() / 4);
  encoding.offsets.reserve(text.size() / 4);
  for (size_t begin = 0; begin < text.size();) {
    const std::string_view rest = text.substr(begin), word = rest.substr(0, cutter_->next(rest));
    const auto at = static_cast<uint32_t>(begin);
    begin += word.size();
    if (words_->append(word, at, encoding)) continue;
    Encoding alone;
    try {
      alone = encode_whole(word, false);
    } catch (const Error&) {
      return encode_whole(text, false);  // the message then counts bytes from the text's begin
    }
    words_->put(word, alone);
    encoding.ids.insert(encoding.ids.end(), alone.ids.begin(), alone.ids.end());
    for (const auto& [from, to] : alone.offsets) encoding.offsets.push_back({at + from, at + to});
  }
  return encoding;
}

Encoding Tokenizer::encode_whole(std::string_view text, bool add_special) const {
  HfEncoding raw{};
  hf_check(hf_tokenizer_encode(handle_.get(), text.data(), text.size(), add_special, &raw),
           "tokenizer");
  return to_encoding(raw);
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string> texts, bool add_special,
                                              int threads) const {
  std::vector<const char*> data;
  std::vector<size_t> sizes;
  for (const std::string& text : texts) {
    data.push_back(text.data());
    sizes.push_back(text.size());
  }
  std::vector<HfEncoding> raw(texts.size());
  hf_check(
      hf_tokenizer_encode_batch(handle_.get(), data.data(), sizes.data(), texts.size(), add_special,
                                static_cast<size_t>(std::max(threads, 1)), raw.data()),
      "tokenizer");
  std::vector<Encoding> out(raw.size());
  std::transform(raw.begin(), raw.end(), out.begin(), to_encoding);
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const std::vector<uint32_t> raw(ids.begin(), ids.end());
  HfBytes text{};
  hf_check(hf_tokenizer_decode(handle_.get(), raw.data(), raw.size(), skip_special, &text),
           "tokenizer");
  return hf_string(text);
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const int64_t id = hf_tokenizer_token_to_id(handle_.get(), token.data(), token.size());
  return id < 0 ? std::nullopt : std::optional<int32_t>(static_cast<int32_t>(id));
}

std::string Tokenizer::id_to_token(int32_t id) const {
  HfBytes token{};
  hf_check(hf_tokenizer_id_to_token(handle_.get(), static_cast<uint32_t>(id), &token), "tokenizer");
  return hf_string(token);
}

bool Tokenizer::is_special(int32_t id) const {
  const auto at =
      std::lower_bound(added_tokens_.begin(), added_tokens_.end(), id,
                       [](const AddedToken& token, int32_t wanted) { return token.id < wanted; });
  return at != added_tokens_.end() && at->id == id && at->special;
}

// A token's text can depend on the one before it (a leading blank that is dropped at the start), so
// a piece is the difference of two decodings that begin at the same token.
std::string StreamDecoder::push(const Tokenizer& tokenizer, int32_t id) {
  window_.push_back(id);
  const std::string before = tokenizer.decode(std::span(window_).first(given_), skip_special_);
  std::string now = tokenizer.decode(window_, skip_special_);
  if (now.size() <= before.size() || now.ends_with("\uFFFD")) return {};
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(given_));
  given_ = window_.size();
  return now.substr(before.size());
}

std::string StreamDecoder::finish(const Tokenizer& tokenizer) {
  const std::string before = tokenizer.decode(std::span(window_).first(given_), skip_special_);
  std::string now = tokenizer.decode(window_, skip_special_);
  window_.clear();
  given_ = 0;
  return now.size() > before.size() ? now.substr(before.size()) : std::string();
}

}  // namespace aerie
