// What a new draft takes from its target: every tensor that has a counterpart, in its place.
#include "draft_models/start.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/testing.h"

namespace aerie::testing {
namespace {

constexpr int64_t kHidden = 8, kHeads = 2, kKvHeads = 1, kHeadDim = 4, kInner = 12, kVocab = 20;

/// Only what a start asks for.
class FakeTarget final : public TargetModel {
 public:
  explicit FakeTarget(bool qk_norm) {
    config_.model_type = "fake";
    last_.input_norm = at::rand({kHidden});
    last_.post_norm = at::rand({kHidden});
    last_.q = at::rand({kHeads * kHeadDim, kHidden}).to(at::kBFloat16);
    last_.k = at::rand({kKvHeads * kHeadDim, kHidden}).to(at::kBFloat16);
    last_.v = at::rand({kKvHeads * kHeadDim, kHidden}).to(at::kBFloat16);
    last_.o = at::rand({kHidden, kHeads * kHeadDim});
    last_.gate = at::rand({kInner, kHidden});
    last_.up = at::rand({kInner, kHidden});
    last_.down = at::rand({kHidden, kInner});
    last_.final_norm = at::rand({kHidden});
    last_.qk_norm = qk_norm;
    if (qk_norm) {
      last_.q_norm = at::rand({kHeadDim});
      last_.k_norm = at::rand({kHeadDim});
    }
  }
  ForwardOutput forward(const ForwardInput&) const override { fail("not asked for"); }
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return rows_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override { return rows_.index_select(0, ids); }
  std::optional<LastLayer> last_layer() const override {
    return fits_ ? std::optional(last_) : std::nullopt;
  }
  at::ScalarType dtype() const override { return at::kBFloat16; }
  at::Device device() const override { return at::kCPU; }

  LastLayer last_;
  bool fits_ = true;  ///< false: its layers are not of the draft's form

 private:
  ModelConfig config_;
  Tensor rows_ = at::rand({kVocab, kHidden});
  ops::LinearWeight head_;
};

DraftConfig draft_config() {
  DraftConfig config;
  config.hidden = config.target_hidden = kHidden;
  config.intermediate = kInner;
  config.heads = kHeads;
  config.kv_heads = kKvHeads;
  config.head_dim = kHeadDim;
  config.vocab = kVocab;
  config.draft_vocab = 5;
  config.capture_layers = {1, 2, 3};
  return config;
}

TEST(Start, TheHeadIsTheTargetsRowsOfTheDraftVocabulary) {
  const FakeTarget target(false);
  const Tensor ids = at::tensor({3, 4, 9, 11, 19}, at::kLong);
  const DraftStart start = start_from_head(target, make_vocab_map(ids, kVocab));
  ASSERT_EQ(start.size(), 1u);
  EXPECT_TRUE(start.at("lm_head.weight").equal(target.head_rows(ids)));
}

TEST(Start, TheLayerReadsTheFeaturesAsTheTargetsReadsTheResidualStream) {
  const FakeTarget target(false);
  const DraftParams draft =
      init_draft(draft_config(), start_from_layer(draft_config(), target, 1), 1);
  const LastLayer& last = target.last_;
  const auto is = [&](const char* name, const Tensor& expected) {
    EXPECT_TRUE(draft.at(name).equal(expected)) << name;
  };
  is("midlayer.hidden_norm.weight", last.input_norm);
  is("midlayer.input_layernorm.weight", at::ones({kHidden}));
  is("midlayer.post_attention_layernorm.weight", last.post_norm);
  is("midlayer.self_attn.o_proj.weight", last.o);
  is("midlayer.mlp.gate_up_proj.weight", at::cat({last.gate, last.up}));
  is("midlayer.mlp.down_proj.weight", last.down);
  is("norm.weight", last.final_norm);

  const Tensor q = draft.at("midlayer.self_attn.q_proj.weight"),
               kv = draft.at("midlayer.self_attn.kv_proj.weight");
  EXPECT_TRUE(q.narrow(1, kHidden, kHidden).equal(last.q.to(at::kFloat)));
  EXPECT_TRUE(kv.narrow(1, kHidden, kHidden).equal(at::cat({last.k, last.v}).to(at::kFloat)));
  EXPECT_LT(q.narrow(1, 0, kHidden).abs().max().item<double>(), 0.12);
  EXPECT_GT(q.narrow(1, 0, kHidden).abs().max().item<double>(), 0.0);
}

TEST(Start, FcPassesTheLatestCapturedLayerOn) {
  const FakeTarget target(false);
  const Tensor fc = start_from_layer(draft_config(), target, 1).at("fc.weight");
  const Tensor identity = at::cat({at::zeros({kHidden, 2 * kHidden}), at::eye(kHidden)}, 1);
  EXPECT_LT((fc - identity).abs().max().item<double>(), 0.03);
}

TEST(Start, QueriesAndKeysThatTheTargetNormsStayNoise) {
  const DraftStart start = start_from_layer(draft_config(), FakeTarget(true), 1);
  EXPECT_EQ(start.count("midlayer.self_attn.q_proj.weight"), 0u);
  EXPECT_EQ(start.count("midlayer.self_attn.kv_proj.weight"), 0u);
  EXPECT_EQ(start.count("midlayer.mlp.down_proj.weight"), 1u);
}

TEST(Start, ABodyThatNormsThemTooTakesThemWithTheirNorms) {
  DraftConfig config = draft_config();
  config.qk_norm = true;
  const FakeTarget target(true);
  const DraftParams draft = init_draft(config, start_from_layer(config, target, 1), 1);
  EXPECT_TRUE(draft.at("midlayer.self_attn.q_norm.weight").equal(target.last_.q_norm));
  EXPECT_TRUE(draft.at("midlayer.self_attn.k_norm.weight").equal(target.last_.k_norm));
  EXPECT_TRUE(draft.at("midlayer.self_attn.q_proj.weight")
                  .narrow(1, kHidden, kHidden)
                  .equal(target.last_.q.to(at::kFloat)));
}

TEST(Start, FurtherLayersBeginAsTheIdentity) {
  DraftConfig config = draft_config();
  config.layers = 2;
  const DraftParams draft = init_draft(config, start_from_layer(config, FakeTarget(false), 1), 1);
  EXPECT_EQ(draft.at("layers.1.self_attn.o_proj.weight").abs().max().item<float>(), 0);
  EXPECT_EQ(draft.at("layers.1.mlp.down_proj.weight").abs().max().item<float>(), 0);
  EXPECT_GT(draft.at("layers.1.self_attn.q_proj.weight").abs().max().item<float>(), 0);
}

TEST(Start, SaysWhatToSetWhereThereIsNoSuchLayer) {
  FakeTarget target(false);
  target.fits_ = false;
  const std::string message = error_of([&] { start_from_layer(draft_config(), target, 1); });
  EXPECT_NE(message.find("the layers of a fake"), std::string::npos) << message;
  EXPECT_NE(message.find("set draft.init to head"), std::string::npos) << message;
}

}  // namespace
}  // namespace aerie::testing
