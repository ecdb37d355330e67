#include "trainer/ttt_loss.h"

#include <cmath>

#include "common/error.h"
#include "trainer/keep_rows.h"

namespace aerie {
namespace {

/// Keys and values of the unroll so far, always those of the rows that are still alive.
struct UnrollState {
  Tensor base_key, base_value;                 // [B,G,D]
  std::vector<Tensor> step_keys, step_values;  // each [R,G,D]

  void keep(const Tensor& survivors) {
    for (Tensor& key : step_keys) key = keep_rows(key, survivors);
    for (Tensor& value : step_values) value = keep_rows(value, survivors);
  }
};

/// The normed states of every depth's training rows.
std::vector<Tensor> unroll(const Eagle3Draft& draft, const TrainBatch& batch,
                           const UnrollPlan& plan) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(draft.config().head_dim));
  Tensor hidden = draft.fuse(batch.captured.index_select(0, plan.base_rows));
  UnrollState state;
  std::vector<Tensor> normed;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    const UnrollPlan::Depth& depth = plan.depths[k];
    if (depth.survivors.defined()) {
      hidden = keep_rows(hidden, depth.survivors);
      state.keep(depth.survivors);
    }
    const Attend attend = [&](const Tensor& q, const Tensor& key, const Tensor& value) {
      if (k == 0) {
        state.base_key = key;
        state.base_value = value;
      } else {
        state.step_keys.push_back(key);
        state.step_values.push_back(value);
      }
      return ops::ttt_attention(q, depth.rows, state.base_key, state.base_value, plan.q_start,
                                state.step_keys, state.step_values, scale);
    };
    const Tensor rows = k == 0 ? depth.rows : Tensor();
    DraftStep step = draft.step(depth.tokens, hidden, depth.positions, rows, attend);
    hidden = step.hidden;
    normed.push_back(std::move(step.normed));
  }
  return normed;
}

/// [M] f32: the weight of every pair's depth.
Tensor pair_weights(const UnrollPlan& plan, std::span<const double> weights) {
  Tensor row_weight = at::empty({plan.pairs}, at::kFloat);
  int64_t begin = 0;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    row_weight.narrow(0, begin, plan.depths[k].count).fill_(weights[k]);
    begin += plan.depths[k].count;
  }
  return row_weight;
}

}  // namespace

ops::HeadLoss ttt_loss(const Eagle3Draft& draft, const TrainBatch& batch, const UnrollPlan& plan,
                       const TeacherHead& teacher, std::span<const double> weights) {
  AERIE_CHECK(plan.pairs > 0, "the batch has no assistant tokens to train on");
  AERIE_CHECK(weights.size() >= plan.depths.size(), "{} step weights for {} depths", weights.size(),
              plan.depths.size());
  const Tensor normed = at::cat(unroll(draft, batch, plan));
  const ops::Teacher labels{batch.last_hidden.index_select(0, plan.teacher_rows), teacher.head,
                            teacher.vocab->draft_to_target, teacher.vocab->target_to_draft};
  return ops::head_loss(normed, draft.head(), labels, plan.teacher_row,
                        pair_weights(plan, weights));
}

std::vector<double> step_weights(double decay, int64_t unroll) {
  std::vector<double> weights;
  for (int64_t k = 0; k < unroll; ++k) weights.push_back(std::pow(decay, k));
  return weights;
}

}  // namespace aerie
