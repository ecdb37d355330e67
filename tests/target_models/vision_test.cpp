// Vision-language targets against transformers (scripts/make_golden_vision.py): tokens, pixels,
// tower, positions, hidden states and logits, f32.
#include <gtest/gtest.h>

#include "target_models/patch_grid.h"
#include "target_models/rope.h"
#include "tests/target_models/media_model.h"

namespace aerie::testing {
namespace {

// The conversations of make_golden_vision.py.
const std::vector<std::string> kRows = {
    R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "Read this: "},
        {"type": "image", "image": "turned.jpg"}, {"type": "text", "text": " please."}]},
        {"role": "assistant", "content": "It says Aerie 42."}]})",
    R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "palette.png"},
        {"type": "text", "text": " and "}, {"type": "image", "image": "grey.jpg"},
        {"type": "text", "text": " differ?"}]}, {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "One is grey."}]})",
    R"({"messages": [{"role": "user", "content": "No image here."},
        {"role": "assistant", "content": "True."}]})"};

class VisionModel : public MediaModel, public ::testing::WithParamInterface<const char*> {
 protected:
  VisionModel()
      : MediaModel(golden_dir() / "models" / GetParam(), golden_dir() / "images", kRows) {}
};
INSTANTIATE_TEST_SUITE_P(Families, VisionModel,
                         ::testing::Values("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "hunyuan_vl"),
                         [](const auto& family) { return std::string(family.param); });

TEST_P(VisionModel, TokensAndPixelsEqualTransformers) {
  expect_tokens_are_golden();
  for (size_t d = 0; d < 2; ++d) {
    std::vector<Tensor> pixels;
    for (const MediaSpan& span : documents_[d].media)
      pixels.push_back(processors_.of(span.kind).load(span.source).values);
    EXPECT_LE(max_error(at::cat(pixels), value(d, "pixels")), kTolerance) << d;
  }
}

TEST_P(VisionModel, TowerAndPositionsEqualTransformers) {
  for (size_t d = 0; d < 2; ++d) {
    const EncodedSample encoded = model_->encode(documents_[d]);
    EXPECT_LE(max_error(encoded.embeds, value(d, "tower")), kTolerance) << d;
    EXPECT_TRUE(at::equal(encoded.positions, value(d, "positions"))) << d;
    ASSERT_EQ(encoded.deepstack.defined(), has_value(d, "deepstack")) << d;
    if (encoded.deepstack.defined()) {
      EXPECT_LE(max_error(encoded.deepstack, value(d, "deepstack")), kTolerance) << d;
    }
  }
  const EncodedSample text = model_->encode(documents_[2]);
  EXPECT_FALSE(text.embeds.defined());
  EXPECT_TRUE(at::equal(text.positions, documents_[2].positions)) << "text needs one axis only";
}

TEST_P(VisionModel, DocumentsEqualTransformers) { expect_documents_are_golden(); }

TEST_P(VisionModel, PackedDocumentsEqualEachAlone) { expect_the_pack_is_golden(); }

TEST_P(VisionModel, ADocumentCutWithinAnImageKeepsTheRowsThatAreLeft) {
  const PackedTokens& whole = documents_[1];
  const MediaSpan& second = whole.media[1];
  const int64_t size = second.begin + second.count / 2;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < size; ++i) ids.push_back(whole.tokens[i].item<int32_t>());
  const EncodedSample all = model_->encode(whole),
                      cut = model_->encode(pack_document(ids, media_before(whole.media, size)));
  EXPECT_TRUE(at::equal(cut.positions, all.positions.narrow(1, 0, size)));
  EXPECT_TRUE(at::equal(cut.embed_rows, all.embed_rows.narrow(0, 0, cut.embed_rows.numel())));
  EXPECT_EQ(cut.embed_rows[-1].item<int64_t>(), size - 1);
  EXPECT_TRUE(at::equal(cut.embeds, all.embeds.narrow(0, 0, cut.embeds.size(0))));
}

class Qwen3Vl : public MediaModel {
 protected:
  Qwen3Vl() : MediaModel(golden_dir() / "models/qwen3_vl", golden_dir() / "images", kRows) {}
};

TEST_F(Qwen3Vl, CapturedStatesHoldWhatDeepStackAddsBehindTheirLayer) {
  const ForwardOutput out = forward(documents_[1]);
  const EncodedSample encoded = model_->encode(documents_[1]);
  const Tensor recorded = value(1, "recorded");  // without it, as transformers' hidden_states
  const int64_t width = model_->config().hidden;
  ASSERT_EQ(recorded.size(0), 2);
  for (int64_t i = 0; i < 2; ++i) {
    Tensor expected = recorded[i].clone();
    expected.index_add_(0, encoded.embed_rows, encoded.deepstack.narrow(1, i * width, width));
    EXPECT_LE(max_error(out.captured.narrow(1, i * width, width), expected), kTolerance) << i;
    EXPECT_GT(max_error(out.captured.narrow(1, i * width, width), recorded[i]), 0.1) << i;
  }
}

TEST(StackedExperts, AreReadInBothOrders) {
  const Scratch scratch;
  const fs::path copy = copy_model(scratch, "qwen3_vl_moe");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (auto& [name, value] : read_values(copy / "model.safetensors")) {
    const bool stacked = name.find(".experts.") != std::string::npos;
    tensors.emplace_back(name, stacked ? value.transpose(1, 2).contiguous() : value);
  }
  write_safetensors(copy / "model.safetensors", tensors, {{"format", "pt"}});
  const Tensor tokens = at::arange(30, at::kLong);
  const ForwardInput input = packed_input(tokens, int32s({0, 30}));
  const auto logits = [&](const fs::path& directory) {
    return load_target(directory, at::kCPU, at::kFloat)->forward(input).logits;
  };
  EXPECT_LE(max_error(logits(copy), logits(golden_dir() / "models/qwen3_vl_moe")), 1e-5);
}

class Qwen25Vl : public MediaModel {
 protected:
  Qwen25Vl() : MediaModel(golden_dir() / "models/qwen2_5_vl", golden_dir() / "images", kRows) {}
};

TEST_F(Qwen25Vl, AnImageThatChangedSincePrepareIsRefused) {
  PackedTokens packed = documents_[0];
  packed.media[0].source = (golden_dir() / "images/progressive.jpg").string();
  const std::string message = error_of([&] { model_->encode(packed); });
  EXPECT_NE(message.find("prepare them again"), std::string::npos) << message;
  EXPECT_NE(message.find("progressive.jpg"), std::string::npos) << message;
}

TEST_F(Qwen25Vl, ATextTargetRefusesMediaByName) {
  const auto text = load_target(golden_dir() / "models/llama", at::kCPU, at::kFloat);
  const std::string message = error_of([&] { text->encode(documents_[0]); });
  EXPECT_NE(message.find("llama, which takes no image"), std::string::npos) << message;
}

TEST_F(Qwen25Vl, MissingPreprocessorIsRefusedWithTheFix) {
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
  // HunyuanOCR's: blocks over all 16 dimensions, so that the halves differ.
  rope = {.sections = {2, 2, 2, 2}, .per_dimension = true};
  EXPECT_EQ(axes(), (std::vector<int64_t>{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_TRUE(at::equal(rope_axes(rope, 16, 1), at::tensor({2, 2, 2, 2, 3, 3, 3, 3}, at::kLong)));
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
