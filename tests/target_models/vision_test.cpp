// Vision-language targets against transformers (scripts/make_golden_vision.py): tokens, pixels,
// tower, positions, hidden states and logits, f32.
#include <gtest/gtest.h>

#include "data/chat_encoder.h"
#include "target_models/media_positions.h"
#include "target_models/rope.h"
#include "target_models/vision_windows.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

constexpr double kVisionTolerance = 1e-4;
constexpr int kDocuments = 3;

// The conversations of make_golden_vision.py.
constexpr const char* kRows[kDocuments] = {
    R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "Read this: "},
        {"type": "image", "image": "turned.jpg"}, {"type": "text", "text": " please."}]},
        {"role": "assistant", "content": "It says Aerie 42."}]})",
    R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "palette.png"},
        {"type": "text", "text": " and "}, {"type": "image", "image": "grey.jpg"},
        {"type": "text", "text": " differ?"}]}, {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "One is grey."}]})",
    R"({"messages": [{"role": "user", "content": "No image here."},
        {"role": "assistant", "content": "True."}]})"};

class VisionModel : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* row : kRows) {
      EncodedChat chat = encoder_.encode(parse_conversation(row, golden_dir() / "images"));
      documents_.push_back(pack_document(chat.ids, std::move(chat.media)));
    }
  }
  Tensor value(int document, const char* name) const {
    return values_.at(fmt::format("{}.{}", document, name));
  }
  ForwardInput input(const PackedTokens& packed) const {
    const EncodedSample encoded = model_->encode(packed);
    ForwardInput input;
    input.tokens = packed.tokens;
    input.positions = encoded.positions;
    input.embeds = encoded.embeds;
    input.embed_rows = encoded.embed_rows;
    input.layout.q_start = packed.q_start;
    input.logit_rows = at::arange(packed.tokens.numel(), at::kLong);
    input.capture_layers = all_layers(model_->config());
    return input;
  }
  void expect_equal(const ForwardOutput& out, int64_t begin, int document) const {
    const Tensor layers = value(document, "layers");
    const int64_t rows = layers.size(1);
    const auto part = [&](const Tensor& all) { return all.narrow(0, begin, rows); };
    EXPECT_LE(max_error(part(out.logits), value(document, "logits")), kVisionTolerance);
    EXPECT_LE(max_error(part(out.hidden), value(document, "hidden")), kVisionTolerance);
    EXPECT_LE(max_error(part(out.captured), layers.transpose(0, 1).reshape({rows, -1})),
              kVisionTolerance);
  }

  const fs::path directory_ = golden_dir() / "models/qwen2_5_vl";
  std::unique_ptr<TargetModel> model_ = load_target(directory_, at::kCPU, at::kFloat);
  std::map<std::string, Tensor> values_ = read_values(directory_ / "values.safetensors");
  Tokenizer tokenizer_{directory_};
  ChatTemplate template_{directory_};
  MediaProcessors processors_ = read_media_processors(directory_);
  ChatEncoder encoder_{tokenizer_, template_, {}, processors_};
  std::vector<PackedTokens> documents_;
};

TEST_F(VisionModel, TokensAndPixelsEqualTransformers) {
  for (int d = 0; d < kDocuments; ++d) {
    EXPECT_TRUE(at::equal(documents_[d].tokens, value(d, "tokens"))) << d;
    std::vector<Tensor> pixels;
    for (const MediaSpan& span : documents_[d].media)
      pixels.push_back(processors_.of(span.kind).load(span.source).values);
    if (!pixels.empty()) {
      EXPECT_LE(max_error(at::cat(pixels), value(d, "pixels")), kVisionTolerance);
    }
  }
}

TEST_F(VisionModel, TowerAndPositionsEqualTransformers) {
  for (int d = 0; d < 2; ++d) {
    const EncodedSample encoded = model_->encode(documents_[d]);
    EXPECT_LE(max_error(encoded.embeds, value(d, "tower")), kVisionTolerance) << d;
    EXPECT_TRUE(at::equal(encoded.positions, value(d, "positions"))) << d;
  }
  const EncodedSample text = model_->encode(documents_[2]);
  EXPECT_FALSE(text.embeds.defined());
  EXPECT_TRUE(at::equal(text.positions, documents_[2].positions)) << "text needs one axis only";
}

TEST_F(VisionModel, DocumentsEqualTransformers) {
  for (int d = 0; d < kDocuments; ++d) expect_equal(model_->forward(input(documents_[d])), 0, d);
}

TEST_F(VisionModel, PackedDocumentsEqualEachAlone) {
  PackedTokens packed = documents_[0];
  std::vector<int64_t> starts{0, packed.tokens.numel()};
  for (int d = 1; d < kDocuments; ++d) {
    for (MediaSpan span : documents_[d].media) {
      span.begin += starts.back();
      packed.media.push_back(span);
    }
    packed.tokens = at::cat({packed.tokens, documents_[d].tokens});
    packed.positions = at::cat({packed.positions, documents_[d].positions});
    starts.push_back(packed.tokens.numel());
  }
  packed.q_start = int32s(starts);
  const ForwardOutput out = model_->forward(input(packed));
  for (int d = 0; d < kDocuments; ++d) expect_equal(out, starts[d], d);
}

TEST_F(VisionModel, AnImageThatChangedSincePrepareIsRefused) {
  PackedTokens packed = documents_[0];
  packed.media[0].source = (golden_dir() / "images/progressive.jpg").string();
  const std::string message = error_of([&] { model_->encode(packed); });
  EXPECT_NE(message.find("prepare them again"), std::string::npos) << message;
  EXPECT_NE(message.find("progressive.jpg"), std::string::npos) << message;
}

TEST_F(VisionModel, ATextTargetRefusesMediaByName) {
  const auto text = load_target(golden_dir() / "models/llama", at::kCPU, at::kFloat);
  const std::string message = error_of([&] { text->encode(documents_[0]); });
  EXPECT_NE(message.find("llama, which takes no image"), std::string::npos) << message;
}

TEST_F(VisionModel, MissingPreprocessorIsRefusedWithTheFix) {
  const Scratch scratch;
  const fs::path copy = copy_model(scratch, "qwen2_5_vl");
  fs::remove(copy / "preprocessor_config.json");
  const std::string message = error_of([&] { load_target(copy, at::kCPU, at::kFloat); });
  EXPECT_NE(message.find("preprocessor_config.json"), std::string::npos) << message;
}

TEST(RopeAxes, BlocksAndTurns) {
  RopeConfig rope;
  rope.sections = {2, 3, 3};
  const auto axes = [&] {
    const Tensor axis_of = rope_axes(rope, 16);
    const int64_t* data = axis_of.const_data_ptr<int64_t>();
    return std::vector<int64_t>(data, data + axis_of.numel());
  };
  EXPECT_EQ(axes(), (std::vector<int64_t>{0, 0, 1, 1, 1, 2, 2, 2}));
  rope.interleaved = true;
  EXPECT_EQ(axes(), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1}));
  rope.sections = {2, 3, 4};
  EXPECT_NE(error_of([&] { rope_axes(rope, 16); }).find("must add up to 8"), std::string::npos);
}

TEST(Windows, CoverEveryTokenOnce) {
  for (const auto& [rows, columns] : {std::pair{4, 4}, {5, 3}, {1, 7}, {6, 1}}) {
    const PatchGrid grid{rows, columns, 2};
    const WindowOrder windows = order_by_window(grid, 2);
    EXPECT_TRUE(at::equal(std::get<0>(windows.order.sort()), at::arange(grid.tokens())));
    EXPECT_TRUE(
        at::equal(windows.order.index_select(0, windows.inverse), at::arange(grid.tokens())));
    EXPECT_EQ(windows.starts[-1].item<int64_t>(), grid.patches());
    EXPECT_EQ(windows.starts.numel() - 1, ((rows + 1) / 2) * ((columns + 1) / 2));
  }
}

}  // namespace
}  // namespace aerie::testing
