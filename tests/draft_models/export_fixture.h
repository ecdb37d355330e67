// An exported draft in a directory of the test's own, and ways to damage it.
#pragma once
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "draft_models/dialects.h"
#include "tests/draft_models/golden_draft.h"

namespace aerie::testing {

using nlohmann::json;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

/// The target that the golden draft belongs to.
inline ModelConfig target_config() {
  ModelConfig target;
  target.layers = 8;
  target.hidden = 32;
  target.intermediate = 48;
  target.heads = 4;
  target.kv_heads = 2;
  target.head_dim = 8;
  target.vocab = 96;
  target.max_position = 64;
  target.rms_norm_eps = 1e-5;
  target.rope.theta = 500000;
  return target;
}

inline VocabMap every_second_id() { return make_vocab_map(at::arange(40, at::kLong) * 2, 96); }

class Export : public ::testing::Test {
 protected:
  void SetUp() override { save(golden_config()); }

  void save(const DraftConfig& config, LayerIds ids = LayerIds::kAfterLayers) {
    save_draft(directory_, config, params_, every_second_id(), at::kFloat, ids);
  }
  std::vector<std::string> tensor_names() const { return SafetensorsFile(weights_).names(); }
  json config_json() const { return json::parse(read_file(directory_ / "config.json")); }
  LoadedDraft load() const { return load_draft(directory_, target_config()); }
  std::string refusal() const {
    return error_of([&] { load(); });
  }
  /// The message after `change` edited the tensors.
  template <typename Change>
  std::string after_tensors(const Change& change) {
    Tensors tensors;
    {
      const SafetensorsFile old(weights_);
      for (const auto& name : old.names()) tensors.emplace_back(name, old.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(weights_, tensors);
    return refusal();
  }
  /// The message after `change` edited config.json.
  template <typename Change>
  std::string after_config(const Change& change) {
    json config = config_json();
    change(config);
    write_text(directory_ / "config.json", config.dump());
    return refusal();
  }
  static Tensor& find(Tensors& tensors, const std::string& name) {
    for (auto& [key, tensor] : tensors) {
      if (key == name) return tensor;
    }
    throw std::runtime_error("no tensor " + name);
  }

  const Scratch scratch_;
  const fs::path directory_ = scratch_.path() / "draft";
  const fs::path weights_ = directory_ / "model.safetensors";
  const DraftParams params_ = golden_params(golden_values());
};

}  // namespace aerie::testing
