// Weights that do not fit their config.json, or are damaged, are refused with a message that says
// which file, which tensor and what to do.
#include <gmock/gmock.h>

#include "target_models/params.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ParamsTest : public ::testing::Test {
 protected:
  using Tensors = std::vector<std::pair<std::string, Tensor>>;

  /// Loads `model` after `change` edited its tensors.
  template <typename Change>
  std::string refusal(const std::string& model, const Change& change) {
    const Scratch scratch;
    const fs::path directory = copy_model(scratch, model), file = directory / "model.safetensors";
    Tensors tensors;
    {
      const SafetensorsFile old(file);
      for (const auto& name : old.names()) tensors.emplace_back(name, old.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(file, tensors);
    return error_of([&] { load_target(directory, at::kCPU, at::kFloat); });
  }
  static Tensors::iterator find(Tensors& tensors, const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const auto& entry) { return entry.first == name; });
  }
};

constexpr const char* kSome = "model.layers.1.mlp.up_proj.weight";

TEST_F(ParamsTest, MissingTensor) {
  EXPECT_THAT(refusal("llama", [](Tensors& t) { t.erase(find(t, kSome)); }),
              AllOf(HasSubstr(kSome), HasSubstr("[48,32]"), HasSubstr("missing")));
  EXPECT_THAT(refusal("qwen2",
                      [](Tensors& t) { t.erase(find(t, "model.layers.0.self_attn.k_proj.bias")); }),
              HasSubstr("model.layers.0.self_attn.k_proj.bias"));
}

TEST_F(ParamsTest, WrongShape) {
  EXPECT_THAT(refusal("llama",
                      [](Tensors& t) {
                        find(t, kSome)->second = at::zeros({48, 31});
                      }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr(kSome), HasSubstr("[48,31]"),
                    HasSubstr("[48,32]")));
}

TEST_F(ParamsTest, LeftOverTensor) {
  EXPECT_THAT(
      refusal("llama", [](Tensors& t) { t.emplace_back("model.extra.weight", at::zeros({1})); }),
      AllOf(HasSubstr("model.extra.weight"), HasSubstr("does not use")));
}

TEST_F(ParamsTest, HarmlessLeftOvers) {
  EXPECT_EQ(refusal("llama",
                    [](Tensors& t) {
                      t.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq",
                                     at::zeros({4}));
                    }),
            "no error was thrown");
  // The same file for a tied head: an untied lm_head in it is a copy that nobody reads.
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama");
  edit_text(directory / "config.json", "\"tie_word_embeddings\": false",
            "\"tie_word_embeddings\": true");
  EXPECT_EQ(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }), "no error was thrown");
}

TEST_F(ParamsTest, TruncatedFile) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama"), file = directory / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) / 2);
  EXPECT_THAT(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }),
              AllOf(HasSubstr(file.string()), HasSubstr("truncated")));
}

TEST_F(ParamsTest, DamagedHeader) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama"), file = directory / "model.safetensors";
  std::string bytes = read_file(file);
  bytes[9] = '?';
  write_text(file, bytes);
  EXPECT_THAT(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }),
              AllOf(HasSubstr(file.string()), HasSubstr("corrupt")));
}

TEST_F(ParamsTest, NoWeights) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama");
  fs::remove(directory / "model.safetensors");
  EXPECT_THAT(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }),
              AllOf(HasSubstr(directory.string()), HasSubstr("model.safetensors")));
}

TEST_F(ParamsTest, MissingShard) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama3_rope_tied");
  fs::remove(directory / "model-00002-of-00002.safetensors");
  EXPECT_THAT(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }),
              HasSubstr("model-00002-of-00002.safetensors does not exist"));
}

TEST_F(ParamsTest, IndexNamesWhatNoShardHolds) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama3_rope_tied");
  edit_text(directory / "model.safetensors.index.json", "\"model.norm.weight\"",
            "\"model.other.weight\"");
  EXPECT_THAT(error_of([&] { load_target(directory, at::kCPU, at::kFloat); }),
              AllOf(HasSubstr("index.json"), HasSubstr("model.other.weight")));
}

TEST_F(ParamsTest, TensorInTwoShards) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama3_rope_tied");
  const fs::path first = directory / "model-00001-of-00002.safetensors";
  fs::copy_file(first, directory / "model-00002-of-00002.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_of([&] { ParamStore store(directory); }), HasSubstr("remove one of the files"));
}

TEST_F(ParamsTest, OtherTypesAreRefused) {
  EXPECT_THAT(error_of([] { load_target(golden_dir() / "models/llama", at::kCPU, at::kHalf); }),
              HasSubstr("bfloat16 or float32"));
}

TEST(Forward, RefusesWhatWouldReadOutside) {
  const auto model = load_target(golden_dir() / "models/llama", at::kCPU, at::kFloat);
  ForwardInput input = packed_input(at::tensor({1, 2, 3}, at::kLong), int32s({0, 3}));
  input.positions = at::tensor({126, 127, 128}, at::kLong);
  EXPECT_THAT(error_of([&] { model->forward(input); }),
              AllOf(HasSubstr("position 128"), HasSubstr("128 tokens")));
  input.positions = at::tensor({0, 1, 2}, at::kLong);
  input.capture_layers = {1, 1};
  EXPECT_THAT(error_of([&] { model->forward(input); }), HasSubstr("capture_layers [1,1]"));
  input.capture_layers = {3};
  EXPECT_THAT(error_of([&] { model->forward(input); }), HasSubstr("below 3"));
  input.capture_layers = {};
  input.layout.pages = int32s({0}).unsqueeze(0);
  EXPECT_THAT(error_of([&] { model->forward(input); }), HasSubstr("no cache"));
}

}  // namespace
}  // namespace aerie::testing
