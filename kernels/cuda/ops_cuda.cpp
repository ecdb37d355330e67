// The module's table, and the layers' ops: Tensor -> launcher.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/tensors.h"
#include "kernels/cuda/training_cuda.h"
#include "kernels/cuda_ops.h"

namespace aerie::cuda {
namespace {

static_assert(kPageSize == KvPool::kPageSize);

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor input = x.contiguous(), scale = usable_weight(weight, x);
  Tensor out = at::empty_like(input);
  const int64_t width = x.size(-1);
  start("rms_norm", x, cuda::rms_norm,
        RmsNorm{.x = input.const_data_ptr(),
                .weight = scale.const_data_ptr(),
                .residual = nullptr,
                .out = out.data_ptr(),
                .rows = x.numel() / width,
                .width = width,
                .eps = float(eps),
                .dtype = dtype_of(x),
                .weight_dtype = dtype_of(scale)});
  return out;
}

Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps) {
  if (!residual.is_contiguous()) return rms_norm(residual.add_(x), weight, eps);
  const Tensor input = x.contiguous(), scale = usable_weight(weight, x);
  Tensor out = at::empty_like(input);
  start("add_rms_norm_", x, cuda::rms_norm,
        RmsNorm{.x = input.const_data_ptr(),
                .weight = scale.const_data_ptr(),
                .residual = residual.data_ptr(),
                .out = out.data_ptr(),
                .rows = x.size(0),
                .width = x.size(1),
                .eps = float(eps),
                .dtype = dtype_of(x),
                .weight_dtype = dtype_of(scale)});
  return out;
}

NormGrads rms_norm_backward(const Tensor& grad_out, const Tensor& x, const Tensor& weight,
                            double eps) {
  constexpr int64_t kRowsOfStripe = 64, kMaxStripes = 128;
  const Tensor input = x.contiguous(), grad = grad_out.contiguous(),
               scale = usable_weight(weight, x);
  const int64_t width = x.size(-1), rows = x.numel() / width;
  const int64_t stripes = std::clamp<int64_t>(rows / kRowsOfStripe, 1, kMaxStripes);
  const auto wide = x.options().dtype(at::kFloat);
  Tensor grad_x = at::empty_like(input), inverse_rms = at::empty({rows}, wide);
  Tensor grad_weight = at::empty({stripes, width}, wide);
  start("rms_norm_backward", x, cuda::rms_norm_backward,
        RmsNormBackward{.grad_out = grad.const_data_ptr(),
                        .x = input.const_data_ptr(),
                        .weight = scale.const_data_ptr(),
                        .grad_x = grad_x.data_ptr(),
                        .inverse_rms = inverse_rms.data_ptr<float>(),
                        .grad_weight = grad_weight.data_ptr<float>(),
                        .rows = rows,
                        .width = width,
                        .stripes = stripes,
                        .eps = float(eps),
                        .dtype = dtype_of(x),
                        .weight_dtype = dtype_of(scale)});
  return {grad_x, grad_weight.sum(0)};
}

/// Whether rows are equally far apart and contiguous in themselves, as in a slice of a fused
/// projection.
bool rows_are_contiguous(const Tensor& x) { return x.stride(2) == 1 && x.stride(1) == x.size(2); }

Tensor rope(const Tensor& x, const Tensor& positions, const ops::RopeTable& table, bool inverse) {
  const Tensor input = rows_are_contiguous(x) ? x : x.contiguous(), at = positions.contiguous();
  const Tensor cos = table.cos.contiguous(), sin = table.sin.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  start("rope", x, cuda::rope,
        Rope{.x = input.const_data_ptr(),
             .out = out.data_ptr(),
             .positions = data<int64_t>(at),
             .cos = data<float>(cos),
             .sin = data<float>(sin),
             .rows = x.size(0),
             .heads = x.size(1),
             .head_dim = x.size(2),
             .x_stride = input.stride(0),
             .inverse = inverse,
             .dtype = dtype_of(x)});
  return out;
}

Tensor swiglu(const Tensor& gate_up) {
  const Tensor input = gate_up.contiguous();
  const int64_t rows = input.size(0), width = input.size(1) / 2;
  Tensor out = at::empty({rows, width}, input.options());
  start("swiglu", input, cuda::swiglu,
        Swiglu{.gate_up = input.const_data_ptr(),
               .out = out.data_ptr(),
               .rows = rows,
               .width = width,
               .dtype = dtype_of(input)});
  return out;
}

Tensor swiglu_backward(const Tensor& grad_out, const Tensor& gate_up) {
  const Tensor input = gate_up.contiguous(), grad = grad_out.contiguous();
  Tensor grad_gate_up = at::empty_like(input);
  start("swiglu_backward", input, cuda::swiglu_backward,
        SwigluBackward{.grad_out = grad.const_data_ptr(),
                       .gate_up = input.const_data_ptr(),
                       .grad_gate_up = grad_gate_up.data_ptr(),
                       .rows = input.size(0),
                       .width = input.size(1) / 2,
                       .dtype = dtype_of(input)});
  return grad_gate_up;
}

void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                const Tensor& slots) {
  Tensor &k_pages = pool.k[size_t(layer)], &v_pages = pool.v[size_t(layer)];
  const auto ready = [&](const Tensor& x) {
    return (rows_are_contiguous(x) ? x : x.contiguous()).to(k_pages.scalar_type());
  };
  const Tensor keys = ready(k), values = ready(v), places = slots.contiguous();
  start("kv_append_", k_pages, cuda::kv_append,
        KvAppend{.k = keys.const_data_ptr(),
                 .v = values.const_data_ptr(),
                 .k_pages = k_pages.data_ptr(),
                 .v_pages = v_pages.data_ptr(),
                 .slots = data<int64_t>(places),
                 .rows = k.size(0),
                 .kv_heads = pool.kv_heads,
                 .head_dim = pool.head_dim,
                 .k_stride = keys.stride(0),
                 .v_stride = values.stride(0),
                 .dtype = dtype_of(k_pages)});
}

void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots) {
  const Tensor from = from_slots.contiguous(), to = to_slots.contiguous();
  const auto layers = int64_t(pool.k.size()), batch = std::min<int64_t>(layers, kMaxLayers);
  const Tensor staging =
      at::empty({batch, 2, from.numel(), pool.kv_heads, pool.head_dim}, pool.k[0].options());
  for (int64_t first = 0; first < layers; first += kMaxLayers) {
    KvMove move{.k_pages = {},
                .v_pages = {},
                .from = data<int64_t>(from),
                .to = data<int64_t>(to),
                .staging = staging.data_ptr(),
                .count = from.numel(),
                .layers = std::min(layers - first, batch),
                .kv_heads = pool.kv_heads,
                .head_dim = pool.head_dim,
                .dtype = dtype_of(staging)};
    for (int64_t i = 0; i < move.layers; ++i) {
      move.k_pages[i] = pool.k[size_t(first + i)].data_ptr();
      move.v_pages[i] = pool.v[size_t(first + i)].data_ptr();
    }
    start("kv_move_", staging, cuda::kv_move, move);
  }
}

/// One block a tile of rows fills the device when there are many rows; otherwise long contexts are
/// split among blocks.
int64_t choose_splits(const Tensor& q, int64_t chunks, int64_t max_q, int64_t max_kv) {
  constexpr int64_t kQueriesOfBlock = 16;
  const int64_t blocks = chunks * ((max_q * q.size(1) + kQueriesOfBlock - 1) / kQueriesOfBlock);
  if (blocks >= 2 * multiprocessors(q)) return 1;
  return std::max<int64_t>(1, (max_kv + kAttentionSplit - 1) / kAttentionSplit);
}

Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale) {
  check_head_dim("ragged_attention", pool.head_dim);
  const Tensor &k_pages = pool.k[size_t(layer)], &v_pages = pool.v[size_t(layer)];
  const auto here = [&](const Tensor& x) {
    return x.defined() ? x.to(q.device()).contiguous() : x;
  };
  const Tensor queries = q.to(k_pages.scalar_type()).contiguous();
  const Tensor q_start = here(layout.q_start), kv_len = here(layout.kv_len),
               pages = here(layout.pages), tree = here(layout.tree);
  Tensor out = at::empty_like(queries), partial_out, partial_stats;
  const int64_t rows = q.size(0), heads = q.size(1), chunks = kv_len.numel();
  const int64_t splits = choose_splits(q, chunks, layout.max_q, layout.max_kv);
  if (splits > 1) {
    partial_out = at::empty({splits, rows, heads, pool.head_dim}, q.options().dtype(at::kFloat));
    partial_stats = at::empty({splits, rows, heads, 2}, q.options().dtype(at::kFloat));
  }
  const Attention common{.q = queries.const_data_ptr(),
                         .out = out.data_ptr(),
                         .lse = nullptr,
                         .partial_out = splits > 1 ? partial_out.data_ptr<float>() : nullptr,
                         .partial_stats = splits > 1 ? partial_stats.data_ptr<float>() : nullptr,
                         .rows = rows,
                         .chunks = chunks,
                         .heads = heads,
                         .kv_heads = pool.kv_heads,
                         .head_dim = pool.head_dim,
                         .max_q = layout.max_q,
                         .splits = splits,
                         .scale = float(scale),
                         .dtype = dtype_of(queries)};
  start("ragged_attention", q, cuda::ragged_attention,
        RaggedAttention{.common = common,
                        .k_pages = k_pages.const_data_ptr(),
                        .v_pages = v_pages.const_data_ptr(),
                        .q_start = data<int32_t>(q_start),
                        .kv_len = data<int32_t>(kv_len),
                        .pages = data<int32_t>(pages),
                        .tree = tree.defined() ? data<bool>(tree) : nullptr,
                        .page_columns = pages.size(1),
                        .tree_size = tree.defined() ? tree.size(1) : 0});
  return out.to(q.scalar_type());
}

constexpr CudaOps kTable{.device_count = device_count,
                         .rms_norm = rms_norm,
                         .rms_norm_backward = rms_norm_backward,
                         .add_rms_norm_ = add_rms_norm_,
                         .rope = rope,
                         .swiglu = swiglu,
                         .swiglu_backward = swiglu_backward,
                         .kv_append_ = kv_append_,
                         .kv_move_ = kv_move_,
                         .ragged_attention = ragged_attention,
                         .ttt_forward = ttt_forward,
                         .ttt_backward = ttt_backward,
                         .head_loss = head_loss,
                         .nccl_backend = nccl_backend};

}  // namespace
}  // namespace aerie::cuda

extern "C" const aerie::CudaOps* aerie_cuda_ops() { return &aerie::cuda::kTable; }
