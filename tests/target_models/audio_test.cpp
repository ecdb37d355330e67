// Qwen2-Audio against transformers (scripts/make_golden_audio.py): tokens after processing, log-mel
// features, tower, positions, hidden states and logits, f32.
#include <gtest/gtest.h>

#include "tests/target_models/media_model.h"

namespace aerie::testing {
namespace {

/// The conversations that the golden's maker left beside the model.
std::vector<std::string> golden_chats(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> rows;
  for (std::string row; std::getline(stream, row);) rows.push_back(row);
  return rows;
}

class AudioModel : public MediaModel {
 protected:
  AudioModel()
      : MediaModel(golden_dir() / "models/qwen2_audio", golden_dir() / "audio",
                   golden_chats(golden_dir() / "models/qwen2_audio/chats.jsonl")) {}
};

TEST_F(AudioModel, TokensAndFeaturesEqualTransformers) {
  ASSERT_EQ(documents_.size(), 3u);
  expect_tokens_are_golden();
  for (size_t d = 0; d < documents_.size(); ++d) {
    for (size_t j = 0; j < documents_[d].media.size(); ++j) {
      const MediaSpan& span = documents_[d].media[j];
      const Tensor features = processors_.of(span.kind).load(span.source).values;
      EXPECT_LE(max_error(features, value(d, fmt::format("{}.features", j))), kTolerance) << d;
    }
  }
}

TEST_F(AudioModel, TowerAndPositionsEqualTransformers) {
  for (size_t d = 0; d < documents_.size(); ++d) {
    const EncodedSample encoded = model_->encode(documents_[d]);
    std::vector<Tensor> towers;
    for (size_t j = 0; j < documents_[d].media.size(); ++j)
      towers.push_back(value(d, fmt::format("{}.tower", j)));
    EXPECT_EQ(encoded.embeds.defined(), !towers.empty()) << d;
    if (!towers.empty()) {
      EXPECT_LE(max_error(encoded.embeds, at::cat(towers)), kTolerance) << d;
    }
    EXPECT_TRUE(at::equal(encoded.positions, at::arange(documents_[d].tokens.numel())))
        << "sound counts as text does";
  }
}

TEST_F(AudioModel, DocumentsEqualTransformers) { expect_documents_are_golden(); }

TEST_F(AudioModel, PackedDocumentsEqualEachAlone) { expect_the_pack_is_golden(); }

TEST_F(AudioModel, AnImageIsRefusedByName) {
  const std::string message = error_of([&] {
    encode(R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]},
               {"role": "assistant", "content": "No."}]})");
  });
  EXPECT_NE(message.find("takes no images"), std::string::npos) << message;
}

TEST_F(AudioModel, ExtractorsThatWouldHearSomethingElseAreRefused) {
  const Scratch scratch;
  const fs::path copy = copy_model(scratch, "qwen2_audio");
  const fs::path file = copy / "preprocessor_config.json";
  const std::string text = read_file(file);
  const auto refusal = [&](const std::string& from, const std::string& to) {
    write_text(file, text);
    edit_text(file, from, to);
    return error_of([&] { load_target(copy, at::kCPU, at::kFloat); });
  };
  EXPECT_NE(refusal("\"WhisperFeatureExtractor\"", "\"Other\"").find("\"Other\" is not supported"),
            std::string::npos);
  EXPECT_NE(refusal("\"dither\": 0.0", "\"dither\": 0.1").find("\"dither\" is 0.1"),
            std::string::npos);
  EXPECT_NE(refusal("\"hop_length\"", "\"hop\"").find("\"hop_length\" is missing"),
            std::string::npos);
  fs::remove(file);
  const std::string missing = error_of([&] { load_target(copy, at::kCPU, at::kFloat); });
  EXPECT_NE(missing.find("takes audio"), std::string::npos) << missing;
  EXPECT_NE(missing.find("preprocessor_config.json"), std::string::npos) << missing;
}

TEST_F(AudioModel, APreprocessorOfAnotherModelIsRefused) {
  const Scratch scratch;
  const fs::path copy = copy_model(scratch, "qwen2_audio");
  edit_text(copy / "preprocessor_config.json", "\"feature_size\": 128", "\"feature_size\": 80");
  const auto other = load_target(copy, at::kCPU, at::kFloat);
  const std::string message = error_of([&] { other->encode(documents_[0]); });
  EXPECT_NE(message.find("80 bands"), std::string::npos) << message;
  EXPECT_NE(message.find("the files are of different models"), std::string::npos) << message;
}

}  // namespace
}  // namespace aerie::testing
