#include "trainer/ttt_loss.h"

#include <ATen/ops/arange.h>

#include <cmath>
#include <utility>

#include "common/error.h"
#include "trainer/keep_rows.h"
#include "trainer/recompute.h"

namespace aerie {
namespace {

using Tensors = std::vector<Tensor>;

/// What one depth needs besides the tensors that carry gradients.
struct DepthCall {
  const Eagle3Draft* draft;
  UnrollPlan::Depth depth;
  Tensor q_start;  // of the base rows
  double scale;
  Tensor embeds;  // [B,C] what base rows read at depth 0; undefined: their tokens

  size_t layers() const { return static_cast<size_t>(draft->config().layers); }
  /// Base keys that a row sees beside its own of `later` depths: a row of depth k stands k tokens
  /// further, and the window moves with it, as it does when decoding. 0: all.
  int64_t base_window(size_t later) const {
    const int64_t window = draft->config().window;
    return window > 0 ? window - static_cast<int64_t>(later) : 0;
  }
};

/// One depth as a function of tensors alone. `in`: the hidden state, then key and value of every
/// layer, of depth 0 ([B,G,D]) and of each later depth so far ([R,G,D]). -> the new hidden state,
/// the same after the final norm, and this depth's key and value of every layer.
Tensors run_depth(const DepthCall& call, const Tensors& in) {
  const size_t layers = call.layers(), depths = (in.size() - 1) / (2 * layers);
  const UnrollPlan::Depth& depth = call.depth;
  Tensors out(2);
  size_t layer = 0;
  const Attend attend = [&](const Tensor& q, const Tensor& key, const Tensor& value) {
    const auto earlier = [&](size_t k) { return 1 + 2 * (k * layers + layer); };
    out.push_back(key);
    out.push_back(value);
    Tensors keys, values;
    for (size_t k = 1; k < depths; ++k) {
      keys.push_back(in[earlier(k)]);
      values.push_back(in[earlier(k) + 1]);
    }
    if (depths > 0) {
      keys.push_back(key);
      values.push_back(value);
    }
    const bool base = depths == 0;
    // At depth 0 all base rows go through the lower layers, because the last one attends to them.
    const bool all = base && layer + 1 < layers;
    const Tensor rows = all ? at::arange(q.size(0), depth.rows.options()) : depth.rows;
    const Tensor base_key = base ? key : in[earlier(0)],
                 base_value = base ? value : in[earlier(0) + 1];
    ++layer;
    return ops::ttt_attention(q, rows, base_key, base_value, call.q_start, keys, values, call.scale,
                              call.base_window(keys.size()));
  };
  const Tensor rows = depths == 0 ? depth.rows : Tensor();
  DraftStep step =
      call.draft->step(depth.tokens, in[0], depth.positions, rows, attend, {call.embeds, {}});
  out[0] = std::move(step.hidden);
  out[1] = std::move(step.normed);
  return out;
}

/// The normed states of every depth's training rows.
Tensors unroll(const Eagle3Draft& draft, const TrainBatch& batch, const UnrollPlan& plan,
               bool recompute) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(draft.config().head_dim));
  Tensors state{draft.fuse(batch.captured.index_select(0, plan.base_rows))}, normed;
  // Behind depth 0 only what the assistant wrote is read, and that is tokens. Row t reads what
  // stands at t + 1, which every base row has.
  Tensor embeds =
      batch.embeds.defined() ? batch.embeds.index_select(0, plan.base_rows + 1) : Tensor();
  for (const UnrollPlan::Depth& depth : plan.depths) {
    const DepthCall call{&draft, depth, plan.q_start, scale, std::exchange(embeds, {})};
    if (depth.survivors.defined()) {  // base keys and values are everybody's
      for (size_t i = 0; i < state.size(); ++i) {
        if (i == 0 || i > 2 * call.layers()) state[i] = keep_rows(state[i], depth.survivors);
      }
    }
    const TensorFunction run = [call](const Tensors& in) { return run_depth(call, in); };
    const Tensors out = recompute ? recomputed(run, state) : run(state);
    state[0] = out[0];
    normed.push_back(out[1]);
    state.insert(state.end(), out.begin() + 2, out.end());
  }
  return normed;
}

/// [M] f32: the weight of every pair's depth.
Tensor pair_weights(const UnrollPlan& plan, const std::vector<double>& weights) {
  Tensor row_weight = at::empty({plan.pairs}, at::kFloat);
  int64_t begin = 0;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    const UnrollPlan::Depth& depth = plan.depths[k];
    row_weight.narrow(0, begin, depth.count).fill_(weights[k] * depth.scale);
    begin += depth.count;
  }
  return row_weight;
}

}  // namespace

ops::HeadLoss ttt_loss(const Eagle3Draft& draft, const TrainBatch& batch, const UnrollPlan& plan,
                       const TeacherHead& teacher, const Objective& objective) {
  AERIE_CHECK(plan.pairs > 0, "the batch has no assistant tokens to train on");
  check_window(draft.config(), static_cast<int64_t>(plan.depths.size()));
  AERIE_CHECK(objective.step_weights.size() >= plan.depths.size(), "{} step weights for {} depths",
              objective.step_weights.size(), plan.depths.size());
  const bool recompute = objective.recompute && at::GradMode::is_enabled();
  const Tensor normed = at::cat(unroll(draft, batch, plan, recompute));
  const ops::Teacher labels{batch.last_hidden.index_select(0, plan.teacher_rows), teacher.head,
                            teacher.vocab->draft_to_target, teacher.vocab->target_to_draft};
  return ops::head_loss(normed, draft.head(), labels, plan.teacher_row,
                        pair_weights(plan, objective.step_weights), objective.mix);
}

void check_window(const DraftConfig& draft, int64_t unroll) {
  AERIE_CHECK(
      draft.window == 0 || draft.window >= unroll,
      "draft.window is {}, and at the last of {} unroll steps a row would see its own guesses "
      "alone: make draft.window at least train.unroll, or 0 for no window",
      draft.window, unroll);
}

std::vector<double> step_weights(double decay, int64_t unroll) {
  std::vector<double> weights;
  for (int64_t k = 0; k < unroll; ++k) weights.push_back(std::pow(decay, k));
  return weights;
}

Objective objective_of(const TrainSection& train) {
  Objective objective{train.step_weights, ops::parse_loss(train.loss, "train.loss"),
                      train.recompute};
  objective.mix.lk_scale = train.lk_scale;
  objective.mix.lk_decay = train.lk_decay;
  if (objective.step_weights.empty()) {
    objective.step_weights = step_weights(train.step_decay, train.unroll);
  }
  AERIE_CHECK(
      static_cast<int64_t>(objective.step_weights.size()) == train.unroll,
      "train.step_weights has {} weights, and train.unroll is {}: give one for every depth, "
      "or none and train.step_decay",
      objective.step_weights.size(), train.unroll);
  return objective;
}

}  // namespace aerie
