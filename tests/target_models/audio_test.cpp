// Qwen2-Audio against transformers (scripts/make_golden_audio.py): tokens after processing, log-mel
// features, tower, hidden states, logits and the greedy continuation, f32.
#include <gtest/gtest.h>

#include "data/chat_encoder.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

constexpr double kAudioTolerance = 1e-4;
constexpr int kChats = 2;

class AudioModel : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream rows(directory_ / "chats.jsonl");
    for (std::string row; std::getline(rows, row);) {
      conversations_.push_back(parse_conversation(row, golden_dir() / "audio"));
      EncodedChat chat = encoder_.encode(conversations_.back());
      documents_.push_back(pack_document(chat.ids, std::move(chat.media)));
    }
    ASSERT_EQ(documents_.size(), static_cast<size_t>(kChats));
  }
  const Tensor& value(const std::string& name) const { return values_.at(name); }
  ForwardOutput forward(const PackedTokens& packed) const {
    const EncodedSample encoded = model_->encode(packed);
    ForwardInput input;
    input.tokens = packed.tokens;
    input.positions = encoded.positions;
    input.embeds = encoded.embeds;
    input.embed_rows = encoded.embed_rows;
    input.layout.q_start = packed.q_start;
    input.logit_rows = at::arange(packed.tokens.numel(), at::kLong);
    input.capture_layers = all_layers(model_->config());
    return model_->forward(input);
  }

  const fs::path directory_ = golden_dir() / "models/qwen2_audio";
  std::unique_ptr<TargetModel> model_ = load_target(directory_, at::kCPU, at::kFloat);
  std::map<std::string, Tensor> values_ = read_values(directory_ / "values.safetensors");
  Tokenizer tokenizer_{directory_};
  ChatTemplate template_{directory_};
  MediaProcessors processors_ = read_media_processors(directory_);
  ChatEncoder encoder_{tokenizer_, template_, {}, processors_};
  std::vector<Conversation> conversations_;
  std::vector<PackedTokens> documents_;
};

TEST_F(AudioModel, TokensAndFeaturesEqualTransformers) {
  for (int d = 0; d < kChats; ++d) {
    EXPECT_TRUE(at::equal(documents_[d].tokens, value(fmt::format("{}.tokens", d)))) << d;
    for (size_t j = 0; j < documents_[d].media.size(); ++j) {
      const MediaSpan& span = documents_[d].media[j];
      const Tensor features = processors_.of(span.kind).load(span.source).values;
      EXPECT_LE(max_error(features, value(fmt::format("{}.{}.features", d, j))), kAudioTolerance);
    }
  }
}

TEST_F(AudioModel, TowerEqualsTransformers) {
  for (int d = 0; d < kChats; ++d) {
    const EncodedSample encoded = model_->encode(documents_[d]);
    std::vector<Tensor> towers;
    for (size_t j = 0; j < documents_[d].media.size(); ++j)
      towers.push_back(value(fmt::format("{}.{}.tower", d, j)));
    EXPECT_LE(max_error(encoded.embeds, at::cat(towers)), kAudioTolerance) << d;
  }
}

TEST_F(AudioModel, DocumentsEqualTransformers) {
  for (int d = 0; d < kChats; ++d) {
    const ForwardOutput out = forward(documents_[d]);
    const Tensor& layers = value(fmt::format("{}.layers", d));
    EXPECT_LE(max_error(out.logits, value(fmt::format("{}.logits", d))), kAudioTolerance);
    EXPECT_LE(max_error(out.hidden, value(fmt::format("{}.hidden", d))), kAudioTolerance);
    EXPECT_LE(max_error(out.captured, layers.transpose(0, 1).reshape({layers.size(1), -1})),
              kAudioTolerance);
  }
}

TEST_F(AudioModel, GreedyContinuationEqualsTransformers) {
  for (int d = 0; d < kChats; ++d) {
    const Tensor &expected = value(fmt::format("{}.greedy", d)),
                 &prompt = value(fmt::format("{}.prompt", d));
    PackedTokens packed = documents_[d];  // its audio stands in the prompt
    packed.tokens = prompt;
    while (packed.tokens.numel() < expected.numel()) {
      packed.q_start = int32s({0, packed.tokens.numel()});
      packed.positions = at::arange(packed.tokens.numel(), at::kLong);
      const Tensor next = forward(packed).logits[-1].argmax().view({1});
      packed.tokens = at::cat({packed.tokens, next});
    }
    EXPECT_TRUE(packed.tokens.equal(expected)) << packed.tokens << expected;
  }
}

TEST_F(AudioModel, AnImageIsRefusedByName) {
  const Conversation row = parse_conversation(
      R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]},
          {"role": "assistant", "content": "No."}]})",
      golden_dir());
  const std::string message = error_of([&] { encoder_.encode(row); });
  EXPECT_NE(message.find("takes no images"), std::string::npos) << message;
}

TEST_F(AudioModel, ARemoteFileIsRefusedByName) {
  const std::string message = error_of([] {
    parse_conversation(
        R"({"messages": [{"role": "user", "content": [
            {"type": "audio", "audio_url": "https://example.com/speech.wav"}]},
            {"role": "assistant", "content": "No."}]})",
        golden_dir());
  });
  EXPECT_NE(message.find("https://example.com/speech.wav"), std::string::npos) << message;
}

TEST_F(AudioModel, OtherSettingsAreRefusedByName) {
  const Scratch scratch;
  const fs::path copy = copy_model(scratch, "qwen2_audio");
  const fs::path file = copy / "preprocessor_config.json";
  const std::string text = read_file(file);
  edit_text(file, "\"chunk_length\": 2", "\"chunk_length\": 3");
  const auto wide = load_target(copy, at::kCPU, at::kFloat);
  write_text(file, text);
  edit_text(file, "\"WhisperFeatureExtractor\"", "\"OtherExtractor\"");
  const std::string other = error_of([&] { load_target(copy, at::kCPU, at::kFloat); });
  EXPECT_NE(other.find("OtherExtractor"), std::string::npos) << other;
  fs::remove(file);
  const std::string missing = error_of([&] { load_target(copy, at::kCPU, at::kFloat); });
  EXPECT_NE(missing.find("preprocessor_config.json"), std::string::npos) << missing;
}

}  // namespace
}  // namespace aerie::testing
