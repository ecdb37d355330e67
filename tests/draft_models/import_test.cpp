// Drafts as other trainers leave them become one and the same draft; what does not fit the target
// or the run is refused with both values.
#include "draft_models/import_draft.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "data/vocab_map.h"
#include "tests/draft_models/golden_draft.h"

namespace aerie::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

/// By frequency, as NeMo orders it: neither ascending nor the identity.
VocabMap by_frequency() { return make_vocab_map((at::arange(40, at::kLong) * 7 + 5) % 96, 96); }

class Import : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(directory_);
    save_draft(directory_, golden_config(), params_, by_frequency(), at::kFloat);
  }
  template <typename Change>
  void edit_config(const Change& change) {
    json config = json::parse(read_file(directory_ / "config.json"));
    change(config);
    write_text(directory_ / "config.json", config.dump());
  }
  template <typename Change>
  void edit_tensors(const Change& change) {
    Tensors tensors;
    {
      const SafetensorsFile old(directory_ / "model.safetensors");
      for (const auto& name : old.names()) tensors.emplace_back(name, old.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(directory_ / "model.safetensors", tensors);
  }
  void rename(const std::string& from, const std::string& to) {
    edit_tensors([&](Tensors& tensors) {
      for (auto& [name, tensor] : tensors) {
        if (name.starts_with(from)) name = to + name.substr(from.size());
      }
    });
  }
  /// What a file of another program lacks, and the ids that it writes ({}: none).
  void make_foreign(const std::vector<int>& ids) {
    edit_config([&](json& config) {
      config.erase("aerie");
      config.erase("eagle_aux_hidden_state_layer_ids");
      config.erase("eagle_config");
      for (const char* flag : {"norm_before_residual", "norm_before_fc", "norm_output", "fc_norm",
                               "num_aux_hidden_states", "target_hidden_size"}) {
        config.erase(flag);
      }
      if (!ids.empty()) config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = ids;
    });
  }
  LoadedDraft import(const std::vector<int64_t>& layer_ids = {}) const {
    return import_draft(directory_, testing::small_target(), layer_ids);
  }
  std::string refusal(const std::vector<int64_t>& layer_ids = {}) const {
    return error_of([&] { import(layer_ids); });
  }
  /// The golden draft, its vocabulary ascending and the head's rows with it.
  void expect_golden(const LoadedDraft& draft) const {
    const auto [ids, order] = by_frequency().draft_to_target.sort();
    for (const auto& [name, tensor] : params_.tensors) {
      const bool head = name == "lm_head.weight";
      EXPECT_TRUE(draft.params.at(name).equal(head ? tensor.index_select(0, order) : tensor))
          << name;
    }
    EXPECT_TRUE(draft.vocab.draft_to_target.equal(ids));
    EXPECT_EQ(draft.config.vocabulary_hash, vocabulary_hash(ids, 96));
    EXPECT_THAT(draft.config.capture_layers, ElementsAre(1, 3, 4));
    EXPECT_EQ(draft.config.target_layers, 8);
  }

  const Scratch scratch_;
  const fs::path directory_ = scratch_.path() / "draft";
  const DraftParams params_ = golden_params(golden_values());
};

TEST_F(Import, Aerie) { expect_golden(import()); }

TEST_F(Import, EagleWritesNoIds) {
  make_foreign({});
  expect_golden(import());
}

TEST_F(Import, EagleCountsInputs) {  // (2, n/2, n-3): the default of 8 layers
  make_foreign({2, 4, 5});
  expect_golden(import());
}

TEST_F(Import, SpecForgeCountsOutputsAndTiesInVain) {
  make_foreign({1, 3, 4});
  edit_config([](json& config) { config["tie_word_embeddings"] = true; });
  expect_golden(import());
}

TEST_F(Import, Nemo) {
  make_foreign({1, 3, 4});
  edit_config([](json& config) {
    config["architectures"] = {"LlamaEagle3DraftModel"};
    config["num_hidden_layers"] = 8;  // the target's
  });
  rename("midlayer.", "model.layers.0.");
  rename("fc.", "model.fc.");
  rename("norm.", "model.norm.");
  edit_tensors([](Tensors& t) { t.emplace_back("model.embed_tokens.weight", at::rand({96, 32})); });
  const LoadedDraft draft = import();
  expect_golden(draft);
  EXPECT_TRUE(draft.embed.defined());
}

TEST_F(Import, Speculators) {
  save_speculators_draft(directory_, golden_config(), params_, by_frequency(), {"target", {}, 3},
                         at::kFloat);
  edit_config([](json& config) { config.erase("aerie"); });
  expect_golden(import());
}

TEST_F(Import, WithoutTheMapsOtherDirection) {
  make_foreign({});
  edit_tensors([](Tensors& tensors) {
    std::erase_if(tensors, [](const auto& tensor) { return tensor.first == "t2d"; });
  });
  expect_golden(import());
}

TEST_F(Import, OtherLayersMustBeStated) {
  make_foreign({2, 3, 5});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("[2,3,5]"), HasSubstr("draft.layer_ids to [1,2,4]"),
                               HasSubstr("to [2,3,5]")));
  EXPECT_THAT(import({1, 2, 4}).config.capture_layers, ElementsAre(1, 2, 4));
  EXPECT_THAT(import({2, 3, 5}).config.capture_layers, ElementsAre(2, 3, 5));
  EXPECT_THAT(refusal({1, 3, 4}), AllOf(HasSubstr("[2,3,5]"), HasSubstr("[1,3,4]")));
}

TEST_F(Import, StatedLayersMustBeTheRuns) {
  EXPECT_THAT(refusal({1, 2, 4}), AllOf(HasSubstr("[1,3,4]"), HasSubstr("[1,2,4]")));
}

TEST_F(Import, OtherTargets) {
  ModelConfig target = testing::small_target();
  target.vocab = 128;
  const auto message = [&] { return error_of([&] { import_draft(directory_, target, {}); }); };
  EXPECT_THAT(message(), AllOf(HasSubstr("\"vocab_size\" is 96"), HasSubstr("target's is 128")));
  target = testing::small_target();
  target.layers = 12;
  EXPECT_THAT(message(), AllOf(HasSubstr("is 8"), HasSubstr("is 12")));
  target = testing::small_target();
  target.hidden = 64;
  EXPECT_THAT(message(), AllOf(HasSubstr("is 32"), HasSubstr("is 64")));
}

TEST_F(Import, AnotherDraftsMap) {
  // Weights and map of another draft beside this config: each is sound, they do not belong.
  edit_tensors([](Tensors& tensors) {
    const VocabMap other = make_vocab_map(at::arange(40, at::kLong) * 2, 96);
    for (auto& [name, tensor] : tensors) {
      if (name == "d2t") tensor = other.draft_to_target - at::arange(40, at::kLong);
      if (name == "t2d") tensor = other.target_to_draft.ge(0);
    }
  });
  const std::string was = vocabulary_hash(by_frequency().draft_to_target, 96);
  const std::string is = vocabulary_hash(at::arange(40, at::kLong) * 2, 96);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("\"vocabulary\""), HasSubstr(was), HasSubstr(is)));
}

TEST_F(Import, WhatIsMissingOrTooMuch) {
  make_foreign({});
  rename("midlayer.self_attn.k_proj", "midlayer.self_attn.x_proj");
  EXPECT_THAT(refusal(), HasSubstr("k_proj"));
  SetUp();
  make_foreign({});
  edit_tensors([](Tensors& t) { t.emplace_back("model.layers.1.x.weight", at::ones({2})); });
  EXPECT_THAT(refusal(), HasSubstr("layers.1.x.weight"));
  SetUp();
  edit_config([](json& config) {
    config.erase("aerie");
    config["architectures"] = {"EagleLlamaForCausalLM"};
  });
  EXPECT_THAT(refusal(), HasSubstr("EagleLlamaForCausalLM"));
}

TEST_F(Import, PickledWeightsSayHowToConvert) {
  fs::rename(directory_ / "model.safetensors", directory_ / "pytorch_model.bin");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("save_file")));
}

}  // namespace
}  // namespace aerie::testing
