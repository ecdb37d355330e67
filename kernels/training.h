// The trainer's own ops behind ops.h: what a forward saves and a backward returns. The composed
// versions are the readable definition and run everywhere; kernels/cpu holds the fast ones.
#pragma once
#include "kernels/ops.h"

namespace aerie::ops {

/// Letters as in ops.h. `rows` says which base row each query stands at, ascending; the steps are
/// [R,G,D] each.
struct AttentionInputs {
  Tensor q, rows, k, v, q_start;
  std::vector<Tensor> k_steps, v_steps;
  double scale = 1;
  int64_t window = 0;  ///< latest base keys that a query sees; 0: all
};
struct AttentionOutput {
  Tensor out;  ///< [R,H,D], the type of q
  Tensor lse;  ///< [R,H] f32: log of the softmax denominator over base keys and steps together
};
struct AttentionGrads {
  Tensor q, k, v;
  std::vector<Tensor> k_steps, v_steps;
};

/// Which student rows belong to each distinct teacher row: the rows order[start[u]..start[u+1]) are
/// labelled by teacher row teacher[u]. Sorted once, so that a teacher row's logits are computed
/// once for all unroll depths.
struct TeacherGroups {
  std::vector<int64_t> teacher, start, order;
};
TeacherGroups group_by_teacher(const Tensor& teacher_row);

struct HeadLossGrads {
  Tensor hidden;  ///< [M,C], the type of the student's hidden states
  Tensor head;    ///< [W,C] f32
};
struct HeadLossInputs {
  Tensor hidden;
  const LinearWeight* head = nullptr;
  const Teacher* teacher = nullptr;
  Tensor teacher_row, row_weight;
  bool hidden_grad = false, head_grad = false;  ///< which gradients to compute beside the values
  LossMix mix = {};
};
struct HeadLossOutput {
  HeadLoss values;  ///< `total` is filled by the caller's reduction as well
  HeadLossGrads grads;
};

namespace composed {
AttentionOutput ttt_forward(const AttentionInputs& in);
AttentionGrads ttt_backward(const AttentionInputs& in, const AttentionOutput& out,
                            const Tensor& d_out);
HeadLossOutput head_loss(const HeadLossInputs& in);
}  // namespace composed

}  // namespace aerie::ops
