// TTT attention: the base block by packed attention, which returns its log-sum-exp, then the merge
// of the steps' terms. The backward gives the base block the merged log-sum-exp and
// delta.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/searchsorted.h>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/tensors.h"
#include "kernels/cuda/training_cuda.h"

namespace aerie::cuda {
namespace {

/// The inputs as the kernels read them.
struct Prepared {
  Tensor q, k, v, first, last;
  std::vector<Tensor> k_steps, v_steps;
};

std::vector<Tensor> contiguous(const std::vector<Tensor>& list) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : list) result.push_back(tensor.contiguous());
  return result;
}

Prepared prepare(const ops::AttentionInputs& in) {
  check_head_dim("ttt_attention", in.q.size(2));
  AERIE_CHECK(int64_t(in.k_steps.size()) <= kMaxSteps,
              "ttt_attention on CUDA: {} steps, {} are possible: lower train.unroll",
              in.k_steps.size(), kMaxSteps);
  const Tensor starts = in.q_start.to(in.q.device(), at::kLong), rows = in.rows.contiguous();
  const Tensor document =
      at::searchsorted(starts, rows, /*out_int32=*/false, /*right=*/true).sub_(1);
  Tensor first = starts.index_select(0, document);
  if (in.window > 0) first = at::maximum(first, rows.sub(in.window - 1));
  return {in.q.contiguous(),      in.k.contiguous(),     in.v.contiguous(), first, rows,
          contiguous(in.k_steps), contiguous(in.v_steps)};
}

PackedAttention packed_args(const Prepared& in, Tensor* out, Tensor* lse, double scale) {
  const Attention common{.q = in.q.const_data_ptr(),
                         .out = out ? out->data_ptr() : nullptr,
                         .lse = lse ? lse->data_ptr<float>() : nullptr,
                         .partial_out = nullptr,
                         .partial_stats = nullptr,
                         .rows = in.q.size(0),
                         .chunks = 1,
                         .heads = in.q.size(1),
                         .kv_heads = in.k.size(1),
                         .head_dim = in.q.size(2),
                         .max_q = in.q.size(0),
                         .splits = 1,
                         .scale = float(scale),
                         .dtype = dtype_of(in.q)};
  return {.common = common,
          .k = in.k.const_data_ptr(),
          .v = in.v.const_data_ptr(),
          .first = data<int64_t>(in.first),
          .last = data<int64_t>(in.last),
          .base_rows = in.k.size(0)};
}

void set_pointers(const std::vector<Tensor>& list, const void** pointers) {
  for (size_t s = 0; s < list.size(); ++s) pointers[s] = list[s].const_data_ptr();
}

std::vector<Tensor> make_grads(const std::vector<Tensor>& list, void** pointers) {
  std::vector<Tensor> grads;
  for (size_t s = 0; s < list.size(); ++s) {
    grads.push_back(at::empty_like(list[s]));
    pointers[s] = grads.back().data_ptr();
  }
  return grads;
}

}  // namespace

ops::AttentionOutput ttt_forward(const ops::AttentionInputs& inputs) {
  const Prepared in = prepare(inputs);
  const int64_t rows = in.q.size(0), heads = in.q.size(1);
  Tensor out = at::empty_like(in.q),
         lse = at::empty({rows, heads}, in.q.options().dtype(at::kFloat));
  start("packed_attention", in.q, cuda::packed_attention,
        packed_args(in, &out, &lse, inputs.scale));
  if (in.k_steps.empty()) return {out, lse};
  // Element for element: each warp reads its head before it writes it, so the merge can work in
  // place.
  TttMerge merge{.q = in.q.const_data_ptr(),
                 .base_out = out.const_data_ptr(),
                 .base_lse = data<float>(lse),
                 .k_steps = {},
                 .v_steps = {},
                 .out = out.data_ptr(),
                 .lse = lse.data_ptr<float>(),
                 .rows = rows,
                 .heads = heads,
                 .kv_heads = in.k.size(1),
                 .head_dim = in.q.size(2),
                 .steps = int64_t(in.k_steps.size()),
                 .scale = float(inputs.scale),
                 .dtype = dtype_of(in.q)};
  set_pointers(in.k_steps, merge.k_steps);
  set_pointers(in.v_steps, merge.v_steps);
  start("ttt_merge", in.q, cuda::ttt_merge, merge);
  return {out, lse};
}

ops::AttentionGrads ttt_backward(const ops::AttentionInputs& inputs,
                                 const ops::AttentionOutput& out, const Tensor& grad_out) {
  const Prepared in = prepare(inputs);
  const Tensor grad = grad_out.contiguous(), value = out.out.contiguous(),
               lse = out.lse.contiguous();
  const auto wide = in.q.options().dtype(at::kFloat);
  Tensor grad_q_steps = at::empty(in.q.sizes(), wide), delta = at::empty(lse.sizes(), wide);
  TttMergeBackward merge{.grad_out = grad.const_data_ptr(),
                         .out = value.const_data_ptr(),
                         .q = in.q.const_data_ptr(),
                         .lse = data<float>(lse),
                         .k_steps = {},
                         .v_steps = {},
                         .grad_k_steps = {},
                         .grad_v_steps = {},
                         .grad_q = grad_q_steps.data_ptr<float>(),
                         .delta = delta.data_ptr<float>(),
                         .rows = in.q.size(0),
                         .heads = in.q.size(1),
                         .kv_heads = in.k.size(1),
                         .head_dim = in.q.size(2),
                         .steps = int64_t(in.k_steps.size()),
                         .scale = float(inputs.scale),
                         .dtype = dtype_of(in.q)};
  set_pointers(in.k_steps, merge.k_steps);
  set_pointers(in.v_steps, merge.v_steps);
  ops::AttentionGrads grads{at::empty_like(in.q), at::empty_like(in.k), at::empty_like(in.v),
                            make_grads(in.k_steps, merge.grad_k_steps),
                            make_grads(in.v_steps, merge.grad_v_steps)};
  start("ttt_merge_backward", in.q, cuda::ttt_merge_backward, merge);
  start("packed_attention_backward", in.q, cuda::packed_attention_backward,
        PackedAttentionBackward{.forward = packed_args(in, nullptr, nullptr, inputs.scale),
                                .grad_out = grad.const_data_ptr(),
                                .lse = data<float>(lse),
                                .delta = data<float>(delta),
                                .grad_q_extra = data<float>(grad_q_steps),
                                .grad_q = grads.q.data_ptr(),
                                .grad_k = grads.k.data_ptr(),
                                .grad_v = grads.v.data_ptr()});
  return grads;
}

}  // namespace aerie::cuda
