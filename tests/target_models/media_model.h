// A golden model with towers, its documents, and what transformers made of them.
#pragma once
#include "data/chat_encoder.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {

class MediaModel : public ::testing::Test {
 protected:
  static constexpr double kTolerance = 1e-4;

  /// `media`: the directory that paths of `rows` (JSON) count from.
  MediaModel(const fs::path& directory, fs::path media, const std::vector<std::string>& rows)
      : directory_(directory), media_(std::move(media)) {
    for (const std::string& row : rows) documents_.push_back(encode(row));
  }
  PackedTokens encode(const std::string& row) const {
    EncodedChat chat = encoder_.encode(parse_conversation(row, media_));
    return pack_document(chat.ids, std::move(chat.media));
  }
  Tensor value(size_t document, const std::string& name) const {
    return values_.at(fmt::format("{}.{}", document, name));
  }
  bool has_value(size_t document, const std::string& name) const {
    return values_.count(fmt::format("{}.{}", document, name)) != 0;
  }
  ForwardOutput forward(const PackedTokens& packed) const {
    const EncodedSample encoded = model_->encode(packed);
    ForwardInput input;
    input.tokens = packed.tokens;
    input.positions = encoded.positions;
    input.embeds = encoded.embeds;
    input.embed_rows = encoded.embed_rows;
    input.deepstack = encoded.deepstack;
    input.layout.q_start = packed.q_start;
    input.logit_rows = at::arange(packed.tokens.numel(), at::kLong);
    input.capture_layers = all_layers(model_->config());
    return model_->forward(input);
  }
  /// Logits, last hidden states and every layer of a document's rows, from row `begin` on.
  void expect_golden(const ForwardOutput& out, int64_t begin, size_t document) const {
    const Tensor layers = value(document, "layers");
    const int64_t rows = layers.size(1);
    const auto part = [&](const Tensor& all) { return all.narrow(0, begin, rows); };
    EXPECT_LE(max_error(part(out.logits), value(document, "logits")), kTolerance) << document;
    EXPECT_LE(max_error(part(out.hidden), value(document, "hidden")), kTolerance) << document;
    EXPECT_LE(max_error(part(out.captured), layers.transpose(0, 1).reshape({rows, -1})), kTolerance)
        << document;
  }
  void expect_tokens_are_golden() const {
    for (size_t d = 0; d < documents_.size(); ++d)
      EXPECT_TRUE(at::equal(documents_[d].tokens, value(d, "tokens"))) << d;
  }
  void expect_documents_are_golden() const {
    for (size_t d = 0; d < documents_.size(); ++d) expect_golden(forward(documents_[d]), 0, d);
  }
  /// All documents side by side give what each gives alone.
  void expect_the_pack_is_golden() const {
    PackedTokens packed;
    std::vector<Tensor> tokens, positions;
    std::vector<int64_t> starts{0};
    for (const PackedTokens& document : documents_) {
      for (MediaSpan span : document.media) {
        span.begin += starts.back();
        packed.media.push_back(span);
      }
      tokens.push_back(document.tokens);
      positions.push_back(document.positions);
      starts.push_back(starts.back() + document.tokens.numel());
    }
    packed.tokens = at::cat(tokens);
    packed.positions = at::cat(positions);
    packed.q_start = int32s(starts);
    const ForwardOutput out = forward(packed);
    for (size_t d = 0; d < documents_.size(); ++d) expect_golden(out, starts[d], d);
  }

  const fs::path directory_, media_;
  std::unique_ptr<TargetModel> model_ = load_target(directory_, at::kCPU, at::kFloat);
  std::map<std::string, Tensor> values_ = read_values(directory_ / "values.safetensors");
  Tokenizer tokenizer_{directory_};
  ChatTemplate template_{directory_};
  MediaProcessors processors_ = read_media_processors(directory_);
  ChatEncoder encoder_{tokenizer_, template_, {}, processors_};
  std::vector<PackedTokens> documents_;
};

}  // namespace aerie::testing
