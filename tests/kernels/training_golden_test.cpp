// The trainer's ops and every one of their gradients against PyTorch's autograd in f64
// (tests/golden/kernels).
#include <gtest/gtest.h>

#include "kernels/losses.h"
#include "kernels/ops.h"
#include "tests/kernels/golden.h"

namespace aerie {
namespace {

using testing::Golden;
using testing::leaf;
using testing::norm_error;
using testing::read_golden;
using testing::relative_error;

/// f32 agrees to 1e-5 of the largest element; bf16 to a few roundings in the norm.
struct Precision {
  at::ScalarType type;
  double limit;
};

class TrainingGolden : public ::testing::TestWithParam<Precision> {
 protected:
  at::ScalarType type() const { return GetParam().type; }

  void expect_near(const char* name, const Tensor& value, const Tensor& expected) const {
    const double error =
        type() == at::kFloat ? relative_error(value, expected) : norm_error(value, expected);
    EXPECT_LE(error, GetParam().limit) << name;
  }

  /// Runs the backward of `output` with the file's output gradient and compares all.
  void expect_output_and_grads(const Golden& golden, const Tensor& output,
                               const std::vector<std::pair<std::string, Tensor>>& inputs) const {
    expect_near("output", output, golden.at("output"));
    output.backward(golden.at("d_output").to(type()));
    for (const auto& [name, input] : inputs) {
      expect_near(("d_" + name).c_str(), input.grad(), golden.at("d_" + name));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Types, TrainingGolden,
                         ::testing::Values(Precision{at::kFloat, 1e-5},
                                           Precision{at::kBFloat16, 1e-2}),
                         [](const auto& precision) {
                           return std::string(c10::toString(precision.param.type));
                         });

TEST_P(TrainingGolden, TttAttention) {
  const Golden golden = read_golden("ttt_attention");
  std::vector<std::pair<std::string, Tensor>> inputs;
  const auto input = [&](const std::string& name) {
    inputs.emplace_back(name, leaf(golden.at(name), type()));
    return inputs.back().second;
  };
  const Tensor q = input("q"), k = input("k"), v = input("v");
  std::vector<Tensor> k_steps, v_steps;
  for (const char* step : {"0", "1", "2"}) {
    k_steps.push_back(input(std::string("k_step") + step));
    v_steps.push_back(input(std::string("v_step") + step));
  }
  const Tensor out =
      ops::ttt_attention(q, golden.at("rows"), k, v, golden.at("q_start").to(at::kInt), k_steps,
                         v_steps, 1 / std::sqrt(static_cast<double>(q.size(2))));
  expect_output_and_grads(golden, out, inputs);
}

TEST_P(TrainingGolden, PackedAttention) {
  const Golden golden = read_golden("packed_attention");
  const Tensor q = golden.at("q").to(type());
  const Tensor out = ops::packed_attention(q, golden.at("k").to(type()), golden.at("v").to(type()),
                                           golden.at("q_start").to(at::kInt),
                                           1 / std::sqrt(static_cast<double>(q.size(2))));
  expect_near("output", out, golden.at("output"));
}

TEST_P(TrainingGolden, HeadLoss) {
  const Golden golden = read_golden("head_loss");
  const ops::LinearWeight teacher_head = ops::pack_linear(golden.at("teacher_head").to(type()));
  const ops::Teacher teacher{golden.at("teacher_hidden").to(type()), &teacher_head,
                             golden.at("target_of"), golden.at("draft_of")};
  const Tensor hidden = leaf(golden.at("hidden"), type()),
               master = leaf(golden.at("head"), at::kFloat);
  const ops::LinearWeight head = ops::pack_trainable(master, type());
  const ops::HeadLoss loss =
      ops::head_loss(hidden, head, teacher, golden.at("teacher_row"), golden.at("row_weight"));
  expect_near("loss", loss.loss, golden.at("loss"));
  expect_near("alpha", loss.alpha, golden.at("alpha"));
  expect_near("total", loss.total, golden.at("total"));
  EXPECT_TRUE(loss.in_vocab.to(at::kLong).equal(golden.at("in_vocab")));
  EXPECT_TRUE(loss.hit.to(at::kLong).equal(golden.at("hit")));
  (loss.total * 0.5).backward();  // an upstream factor reaches both gradients
  expect_near("d_hidden", hidden.grad() * 2, golden.at("d_hidden"));
  expect_near("d_head", master.grad() * 2, golden.at("d_head"));
}

// Row for row and with gradients, in a mixture of the one loss alone.
TEST_P(TrainingGolden, EveryLoss) {
  const Golden golden = read_golden("head_losses");
  const ops::LinearWeight teacher_head = ops::pack_linear(golden.at("teacher_head").to(type()));
  const ops::Teacher teacher{golden.at("teacher_hidden").to(type()), &teacher_head,
                             golden.at("target_of"), golden.at("draft_of")};
  for (const char* name : {"kl", "reverse_kl", "js", "ce", "tv", "lk_alpha", "lk_lambda"}) {
    SCOPED_TRACE(name);
    ops::LossMix mix = ops::parse_loss(name, "train.loss");
    mix.lk_scale = 0.8;
    mix.lk_decay = 2.0;
    const Tensor hidden = leaf(golden.at("hidden"), type()),
                 master = leaf(golden.at("head"), at::kFloat);
    const ops::HeadLoss loss =
        ops::head_loss(hidden, ops::pack_trainable(master, type()), teacher,
                       golden.at("teacher_row"), golden.at("row_weight"), mix);
    loss.total.backward();
    const auto expected = [&](const char* what) {
      return golden.at(std::string(name) + "." + what);
    };
    expect_near("loss", loss.loss, expected("loss"));
    expect_near("d_hidden", hidden.grad(), expected("d_hidden"));
    expect_near("d_head", master.grad(), expected("d_head"));
  }
}

// The gradient is linear in the mixture's weights where these do not depend on the row.
TEST_P(TrainingGolden, AMixtureIsTheSumOfItsLosses) {
  const Golden golden = read_golden("head_losses");
  const ops::LinearWeight teacher_head = ops::pack_linear(golden.at("teacher_head").to(type()));
  const ops::Teacher teacher{golden.at("teacher_hidden").to(type()), &teacher_head,
                             golden.at("target_of"), golden.at("draft_of")};
  const ops::LossMix mix =
      ops::parse_loss("0.5 kl+0.25 reverse_kl + 2 js + 0.75 ce + tv + 0.1 lk_alpha", "train.loss");
  const Tensor hidden = leaf(golden.at("hidden"), type()),
               master = leaf(golden.at("head"), at::kFloat);
  const ops::HeadLoss loss = ops::head_loss(hidden, ops::pack_trainable(master, type()), teacher,
                                            golden.at("teacher_row"), golden.at("row_weight"), mix);
  loss.total.backward();
  const std::pair<const char*, double> terms[] = {
      {"kl", 0.5}, {"reverse_kl", 0.25}, {"js", 2}, {"ce", 0.75}, {"tv", 1}, {"lk_alpha", 0.1}};
  Tensor value = at::zeros_like(golden.at("kl.loss")), d_head = at::zeros_like(golden.at("head"));
  for (const auto& [name, weight] : terms) {
    value.add_(golden.at(std::string(name) + ".loss"), weight);
    d_head.add_(golden.at(std::string(name) + ".d_head"), weight);
  }
  expect_near("loss", loss.loss, value);
  expect_near("d_head", master.grad(), d_head);
}

TEST_P(TrainingGolden, Linear) {
  const Golden golden = read_golden("linear");
  const Tensor x = leaf(golden.at("x"), type()), master = leaf(golden.at("weight"), at::kFloat);
  const Tensor y = ops::linear(x, ops::pack_trainable(master, type()));
  expect_output_and_grads(golden, y, {{"x", x}, {"weight", master}});
  EXPECT_EQ(master.grad().scalar_type(), at::kFloat);
}

TEST_P(TrainingGolden, LinearAddsToTheGradient) {
  const Golden golden = read_golden("linear");
  const Tensor x = leaf(golden.at("x"), type()), master = leaf(golden.at("weight"), at::kFloat);
  const ops::LinearWeight weight = ops::pack_trainable(master, type());
  for (int step = 0; step < 2; ++step)
    ops::linear(x, weight).backward(golden.at("d_output").to(type()));
  expect_near("d_weight", master.grad() / 2, golden.at("d_weight"));
}

TEST_P(TrainingGolden, RmsNorm) {
  const Golden golden = read_golden("rms_norm");
  const Tensor x = leaf(golden.at("x"), type()), weight = leaf(golden.at("weight"), at::kFloat);
  expect_output_and_grads(golden, ops::rms_norm(x, weight, 1e-5), {{"x", x}, {"weight", weight}});
}

TEST_P(TrainingGolden, Swiglu) {
  const Golden golden = read_golden("swiglu");
  const Tensor x = leaf(golden.at("gate_up"), type());
  expect_output_and_grads(golden, ops::swiglu(x), {{"gate_up", x}});
}

TEST_P(TrainingGolden, Rope) {
  const Golden golden = read_golden("rope");
  const Tensor x = leaf(golden.at("x"), type());
  const ops::RopeTable table = ops::make_rope_table(golden.at("inverse_frequencies"), 64);
  expect_output_and_grads(golden, ops::rope(x, golden.at("positions"), table), {{"x", x}});
}

}  // namespace
}  // namespace aerie
