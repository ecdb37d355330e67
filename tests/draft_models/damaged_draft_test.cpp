// Every damage to a draft on disk is refused with a message that names file, tensor or key.
#include <ATen/ops/zeros.h>

#include <cmath>

#include "tests/draft_models/export_fixture.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using DamagedDraft = Export;

// ---- damage to the tensors ----

TEST_F(DamagedDraft, Truncated) {
  fs::resize_file(weights_, fs::file_size(weights_) - 100);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(weights_.string()), HasSubstr("truncated")));
}

TEST_F(DamagedDraft, EveryMissingTensor) {
  for (const std::string& name : tensor_names()) {
    save(golden_config());
    EXPECT_THAT(after_tensors([&](Tensors& tensors) {
                  std::erase_if(tensors, [&](const auto& t) { return t.first == name; });
                }),
                AllOf(HasSubstr(directory_.string()), HasSubstr(name), HasSubstr("missing")));
  }
}

TEST_F(DamagedDraft, EveryWrongShape) {
  for (const std::string& name : tensor_names()) {
    save(golden_config());
    EXPECT_THAT(after_tensors([&](Tensors& tensors) {
                  Tensor& tensor = find(tensors, name);
                  tensor = tensor.narrow(0, 0, tensor.size(0) - 1).contiguous();
                }),
                AllOf(HasSubstr(weights_.string()), HasSubstr(name), HasSubstr("has shape")));
  }
}

TEST_F(DamagedDraft, EveryNotFiniteTensor) {
  for (const double value : {std::nan(""), HUGE_VAL}) {
    for (const char* name : {"fc.weight", "midlayer.self_attn.v_proj.weight", "norm.weight",
                             "midlayer.mlp.up_proj.weight", "lm_head.weight"}) {
      save(golden_config());
      EXPECT_THAT(
          after_tensors([&](Tensors& tensors) { find(tensors, name).view(-1)[5] = value; }),
          AllOf(HasSubstr(weights_.string()), HasSubstr(name), HasSubstr("NaN or infinity")));
    }
  }
}

TEST_F(DamagedDraft, ExtraTensor) {
  EXPECT_THAT(after_tensors([](Tensors& t) { t.emplace_back("layers.1.x", at::zeros({1})); }),
              AllOf(HasSubstr(directory_.string()), HasSubstr("layers.1.x")));
}

TEST_F(DamagedDraft, TensorUnderTwoNames) {
  EXPECT_THAT(after_tensors([](Tensors& t) {
                t.emplace_back("layers.0.hidden_norm.weight", at::ones({32}));
              }),
              HasSubstr("mean the same"));
}

TEST_F(DamagedDraft, VocabularyMap) {
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t")[7] = find(t, "d2t")[6] - 1; }),
              AllOf(HasSubstr("d2t"), HasSubstr("6 and 7 stand for the same target id 12")));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t")[39] = 57; }),
              AllOf(HasSubstr("d2t"), HasSubstr("96, outside the vocabulary of 96")));
  save(golden_config());
  // Absolute ids where offsets belong: the last ones leave the vocabulary.
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t") = at::arange(40, at::kLong) * 2; }),
              HasSubstr("offsets"));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t") = at::zeros({40}, at::kInt); }),
              AllOf(HasSubstr("d2t"), HasSubstr("Int")));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "t2d")[1] = true; }),
              AllOf(HasSubstr("t2d"), HasSubstr("does not mark")));
}

// ---- damage to config.json ----

TEST_F(DamagedDraft, WrongVocabulary) {
  EXPECT_THAT(
      after_config([](json& c) { c["vocab_size"] = 40; }),
      AllOf(HasSubstr("\"vocab_size\" is 40"), HasSubstr("96"), HasSubstr("another target")));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["draft_vocab_size"] = 97; }),
              HasSubstr("between 1 and the target's vocabulary"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c.erase("draft_vocab_size"); }),
              HasSubstr("\"draft_vocab_size\" is missing"));
}

TEST_F(DamagedDraft, LayerIds) {
  const auto with_ids = [&](const json& ids) {
    save(golden_config());
    return after_config([&](json& c) {
      c["eagle_aux_hidden_state_layer_ids"] = ids;
      c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = ids;
      c.erase("aerie");
      c["aerie"] = {{"layer_ids", "residual stream after k layers"}, {"target_layers", 8}};
      c["aerie"]["capture_layers"] = json::array();
      for (const auto& id : ids) c["aerie"]["capture_layers"].push_back(id.get<int>() - 1);
    });
  };
  EXPECT_THAT(with_ids({5, 4, 2}), AllOf(HasSubstr("[4,3,1]"), HasSubstr("ascending")));
  EXPECT_THAT(with_ids({2, 2, 5}), HasSubstr("each once"));
  EXPECT_THAT(with_ids({2, 4, 9}), HasSubstr("layer 8 (0-based) is not one of the target's 8"));
  EXPECT_THAT(with_ids({0, 4, 5}), HasSubstr("layer -1"));
  EXPECT_THAT(with_ids(json::array()), HasSubstr("no layer ids"));
}

TEST_F(DamagedDraft, ContradictingLayerIds) {
  EXPECT_THAT(after_config([](json& c) {
                c["eagle_aux_hidden_state_layer_ids"] = json({1, 3, 4});
              }),
              HasSubstr("differs between the top level [1,3,4] and eagle_config [2,4,5]"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) {
                c["aerie"]["capture_layers"] = json({2, 4, 5});
              }),
              HasSubstr("aerie.capture_layers says [2,4,5]"));
}

TEST_F(DamagedDraft, OtherTarget) {
  ModelConfig target = target_config();
  target.layers = 12;
  EXPECT_THAT(error_of([&] { load_draft(directory_, target); }),
              AllOf(HasSubstr("target_layers"), HasSubstr("another target")));
  target = target_config();
  target.hidden = 64;
  EXPECT_THAT(error_of([&] { load_draft(directory_, target); }), HasSubstr("target_hidden_size"));
}

TEST_F(DamagedDraft, VariantsThatWouldComputeSomethingElse) {
  EXPECT_THAT(after_config([](json& c) { c["norm_before_fc"] = true; }),
              AllOf(HasSubstr("config.json"), HasSubstr("norm_before_fc")));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["architectures"] = {"LlamaForCausalLM"}; }),
              HasSubstr("LlamaForCausalLMEagle3"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["tie_word_embeddings"] = true; }),
              HasSubstr("tie_word_embeddings"));
}

// ---- saving ----

TEST_F(DamagedDraft, SavingRefusesWhatLoadingWould) {
  const auto refused = [&](const DraftParams& params, const VocabMap& vocab) {
    return error_of([&] { save_draft(directory_, golden_config(), params, vocab, at::kFloat); });
  };
  DraftParams params = golden_params(golden_values());
  params.at("norm.weight")[3] = std::nan("");
  EXPECT_THAT(refused(params, every_second_id()),
              AllOf(HasSubstr("norm.weight"), HasSubstr("NaN or infinity")));
  params = golden_params(golden_values());
  params.at("fc.weight") = at::zeros({32, 32});
  EXPECT_THAT(refused(params, every_second_id()), HasSubstr("fc.weight"));
  EXPECT_THAT(refused(params_, make_vocab_map(at::arange(39, at::kLong), 96)),
              HasSubstr("vocabulary map has 39"));
  EXPECT_EQ(refusal(), "no error was thrown") << "the old export must be untouched";
}

}  // namespace
}  // namespace aerie::testing
