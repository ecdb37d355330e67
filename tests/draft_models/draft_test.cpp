// The draft's forward and gradients against plain PyTorch (scripts/make_golden_models.py), three
// steps of the training-time test, and the law that selecting rows changes nothing.
#include "draft_models/draft.h"

#include <ATen/ops/einsum.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <limits>

#include "tests/draft_models/golden_draft.h"

namespace aerie::testing {
namespace {

constexpr int kSteps = 3;
constexpr int64_t kRows = 23;
constexpr double kTolerance = 1e-5;  // relative to the largest value

double relative_error(const Tensor& value, const Tensor& expected) {
  return max_error(value.detach(), expected) / expected.abs().max().item<double>();
}

/// Attention of the training-time test over the whole score matrix: keys of step 0 up to the row,
/// and the row's own key of every later step.
class DenseAttend {
 public:
  /// `rows`: the base rows of the queries; undefined: all.
  explicit DenseAttend(Tensor rows = {}) : rows_(std::move(rows)) {}

  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v) {
    const int64_t groups = q.size(1) / k.size(1);
    keys_.push_back(k.repeat_interleave(groups, 1));
    values_.push_back(v.repeat_interleave(groups, 1));
    const int64_t base = keys_[0].size(0);
    const Tensor columns = at::arange(base, at::kLong);
    const Tensor rows = rows_.defined() ? rows_ : columns;
    const Tensor future = columns.unsqueeze(0) > rows.unsqueeze(1);
    std::vector<Tensor> scores{at::einsum("nhd,mhd->hnm", {q, keys_[0]})
                                   .masked_fill(future, -std::numeric_limits<float>::infinity())};
    for (size_t i = 1; i < keys_.size(); ++i) {
      scores.push_back((q * keys_[i]).sum(-1).t().unsqueeze(-1));
    }
    const double scale = 1 / std::sqrt(static_cast<double>(q.size(2)));
    const Tensor weights = at::softmax(at::cat(scores, -1) * scale, -1);
    Tensor mixed = at::einsum("hnm,mhd->nhd", {weights.slice(2, 0, base), values_[0]});
    for (size_t i = 1; i < values_.size(); ++i) {
      const int64_t column = base + static_cast<int64_t>(i) - 1;
      mixed = mixed + weights.select(2, column).t().unsqueeze(-1) * values_[i];
    }
    return mixed;
  }

 private:
  Tensor rows_;
  std::vector<Tensor> keys_, values_;
};

class DraftTest : public ::testing::Test {
 protected:
  void SetUp() override { values_ = golden_values(); }

  Eagle3Draft frozen() const {
    return Eagle3Draft(golden_config(), golden_params(values_), values_.at("embed"), at::kFloat);
  }
  DraftParams leaves() const {
    DraftParams params = golden_params(values_);
    for (auto& [name, tensor] : params.tensors) tensor.requires_grad_();
    return params;
  }
  const Tensor& expected(int step, const char* name) const {
    return values_.at(fmt::format("{}.{}", step, name));
  }
  Tensor tokens(int step) const { return values_.at("tokens")[step]; }
  Tensor positions(int step) const { return at::arange(kRows, at::kLong) + step; }

  Values values_;
};

TEST_F(DraftTest, ForwardEqualsReference) {
  const Eagle3Draft draft = frozen();
  Tensor hidden = draft.fuse(values_.at("captured"));
  EXPECT_LE(relative_error(hidden, values_.at("fused")), kTolerance);
  DenseAttend attend;
  for (int k = 0; k < kSteps; ++k) {
    const Tensor before = hidden.clone();
    const DraftStep step = draft.step(tokens(k), hidden, positions(k), {}, std::ref(attend));
    EXPECT_TRUE(hidden.equal(before)) << "step changed its input";
    EXPECT_LE(relative_error(step.hidden, expected(k, "hidden")), kTolerance);
    EXPECT_LE(relative_error(draft.logits(step.normed), expected(k, "logits")), kTolerance);
    hidden = step.hidden;
  }
}

TEST_F(DraftTest, GradientsEqualReference) {
  const DraftParams params = leaves();
  const Eagle3Draft draft =
      Eagle3Draft::trainable(golden_config(), params, values_.at("embed"), at::kFloat);
  Tensor hidden = draft.fuse(values_.at("captured")), loss;
  DenseAttend attend;
  for (int k = 0; k < kSteps; ++k) {
    const DraftStep step = draft.step(tokens(k), hidden, positions(k), {}, std::ref(attend));
    const Tensor part = (draft.logits(step.normed) * values_.at("loss_weights")[k]).sum();
    loss = k == 0 ? part : loss + part;
    hidden = step.hidden;
  }
  loss.backward();
  for (const auto& [name, tensor] : params.tensors) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_LE(relative_error(tensor.grad(), golden_tensor(values_, "grad", name)), kTolerance)
        << name;
  }
}

TEST_F(DraftTest, SelectedRowsEqualAllRows) {
  const Eagle3Draft draft = frozen();
  const Tensor rows = at::tensor({3, 4, 11, 22}, at::kLong);
  const auto chosen = [&](const Tensor& all) { return all.index_select(0, rows); };
  DenseAttend attend(rows);
  DraftStep step = draft.step(tokens(0), draft.fuse(values_.at("captured")), positions(0), rows,
                              std::ref(attend));
  for (int k = 0; k < kSteps; ++k) {
    if (k > 0) {
      step = draft.step(chosen(tokens(k)), step.hidden, chosen(positions(k)), {}, std::ref(attend));
    }
    ASSERT_EQ(step.hidden.size(0), 4);
    EXPECT_LE(relative_error(step.hidden, chosen(expected(k, "hidden"))), kTolerance);
    EXPECT_LE(relative_error(draft.logits(step.normed), chosen(expected(k, "logits"))), kTolerance);
  }
}

TEST_F(DraftTest, RefreshTakesTheMastersCurrentValues) {
  const DraftParams params = leaves();
  Eagle3Draft draft =
      Eagle3Draft::trainable(golden_config(), params, values_.at("embed"), at::kBFloat16);
  const Tensor captured = values_.at("captured").to(at::kBFloat16);
  const Tensor before = draft.fuse(captured).detach().clone();
  params.at("fc.weight").detach().mul_(2);
  draft.refresh();
  const Tensor after = draft.fuse(captured).detach();
  EXPECT_EQ(after.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(after.equal(before * 2));
}

TEST_F(DraftTest, Bfloat16StaysNear) {
  const Eagle3Draft draft(golden_config(), golden_params(values_),
                          values_.at("embed").to(at::kBFloat16), at::kBFloat16);
  DenseAttend attend;
  const auto wide = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    return attend(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat)).to(at::kBFloat16);
  };
  const Tensor hidden = draft.fuse(values_.at("captured").to(at::kBFloat16));
  const Tensor logits = draft.logits(draft.step(tokens(0), hidden, positions(0), {}, wide).normed);
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  const Tensor error = (logits - expected(0, "logits")).norm() / expected(0, "logits").norm();
  EXPECT_LE(error.item<double>(), 0.02);
}

TEST_F(DraftTest, RefusesWhatDoesNotFit) {
  DraftParams params = golden_params(values_);
  const Tensor embed = values_.at("embed");
  const auto refusal = [&](const Tensor& embedding) {
    return error_of([&] { Eagle3Draft(golden_config(), params, embedding, at::kFloat); });
  };
  EXPECT_NE(refusal(embed.narrow(0, 0, 95)).find("another target"), std::string::npos);
  const std::string frozen_masters =
      error_of([&] { Eagle3Draft::trainable(golden_config(), params, embed, at::kFloat); });
  EXPECT_NE(frozen_masters.find("requires a gradient"), std::string::npos);
  params.at("fc.weight") = at::zeros({32, 95});
  EXPECT_NE(refusal(embed).find("\"fc.weight\" has shape [32,95]"), std::string::npos);
}

TEST(InitDraft, SeededHeadAndNorms) {
  const DraftConfig config = golden_config();
  const Tensor head = at::rand({40, 32});
  const DraftParams a = init_draft(config, {{"lm_head.weight", head}}, 7),
                    b = init_draft(config, {{"lm_head.weight", head}}, 7);
  const DraftParams other = init_draft(config, {}, 8);
  for (const ParamShape& param : draft_param_shapes(config)) {
    const Tensor& value = a.at(param.name);
    EXPECT_EQ(value.sizes(), at::IntArrayRef(param.shape)) << param.name;
    EXPECT_TRUE(value.equal(b.at(param.name))) << param.name;
    if (!param.matrix()) {
      EXPECT_TRUE(value.eq(1).all().item<bool>()) << param.name;
      continue;
    }
    EXPECT_FALSE(value.equal(other.at(param.name))) << param.name;
    if (param.name == "lm_head.weight") continue;
    EXPECT_NEAR(value.std().item<double>(), 0.02, 0.002) << param.name;
  }
  EXPECT_TRUE(a.at("lm_head.weight").equal(head));
}

TEST(InitDraft, RefusesWhatDoesNotFit) {
  const auto refusal = [](const DraftStart& start) {
    return error_of([&] { init_draft(golden_config(), start, 1); });
  };
  EXPECT_NE(refusal({{"lm_head.weight", at::rand({40, 31})}}).find("[40,31]"), std::string::npos);
  EXPECT_NE(refusal({{"head.weight", at::rand({40, 32})}}).find("not a draft's"),
            std::string::npos);
}

}  // namespace
}  // namespace aerie::testing
