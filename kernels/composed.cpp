#include "kernels/composed.h"

#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>

#include "common/threads.h"
#include "kernels/cpu/cpu_ops.h"

#include <limits>

namespace aerie::ops::composed {
namespace {

using at::indexing::Slice;

/// pages of one layer as [pages,G,kPageSize,D]
Tensor as_pages(const Tensor& layer, const KvPool& pool) {
  return layer.view({pool.pages, pool.kv_heads, KvPool::kPageSize, pool.head_dim});
}

void write_slots(Tensor pages, const Tensor& slots, const Tensor& values) {
  const Tensor page = slots.div(KvPool::kPageSize, "floor"),
               offset = slots.remainder(KvPool::kPageSize);
  pages.index_put_({page, Slice(), offset}, values.to(pages.scalar_type()));
}

Tensor read_slots(const Tensor& pages, const Tensor& slots) {
  const Tensor page = slots.div(KvPool::kPageSize, "floor"),
               offset = slots.remainder(KvPool::kPageSize);
  return pages.index({page, Slice(), offset});
}

/// the first `length` tokens of a sequence: [length,H,D] f32, each KV head repeated for the query
/// heads that share it
Tensor gather_tokens(const Tensor& pages, const Tensor& page_ids, int64_t length, int64_t heads) {
  const int64_t used = (length + KvPool::kPageSize - 1) / KvPool::kPageSize;
  const Tensor chosen = pages.index_select(0, page_ids.slice(0, 0, used).to(at::kLong));
  const int64_t kv_heads = pages.size(1);
  const Tensor tokens = chosen.permute({0, 2, 1, 3}).reshape({-1, kv_heads, pages.size(3)});
  return tokens.slice(0, 0, length).repeat_interleave(heads / kv_heads, 1).to(at::kFloat);
}

/// [rows,length] bool: what each of a chunk's rows sees
Tensor visible(const RaggedLayout& layout, int64_t chunk, int64_t rows, int64_t length,
               int64_t window, at::Device device) {
  const auto boolean = at::TensorOptions().dtype(at::kBool).device(device);
  const Tensor cached = at::ones({rows, length - rows}, boolean);
  const Tensor among = layout.tree.defined()
                           ? layout.tree[chunk].slice(0, 0, rows).slice(1, 0, rows)
                           : at::ones({rows, rows}, boolean).tril();
  const Tensor seen = at::cat({cached, among.to(device)}, 1);
  if (window == 0) return seen;
  // A row's place is the number of tokens that it would see without a window.
  const Tensor oldest = seen.sum(1, true) - window;
  return seen.logical_and(at::arange(length, oldest.options()).unsqueeze(0).ge(oldest));
}

}  // namespace

Tensor dense(const LinearWeight& weight) {
  if (weight.weight.defined()) return weight.weight.detach();
  return cpu::unpack(weight.packed, weight.out_features, weight.in_features);
}

Tensor linear(const Tensor& x, const Tensor& weight) {
  return at::linear(x, weight.to(x.scalar_type()));
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor wide = x.to(at::kFloat);
  const Tensor scale = at::rsqrt(wide.square().mean(-1, true) + eps);
  return (wide * scale * weight.to(at::kFloat)).to(x.scalar_type());
}

Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps) {
  residual.add_(x);
  return rms_norm(residual, weight, eps);
}

Tensor swiglu(const Tensor& gate_up) {
  const auto halves = gate_up.to(at::kFloat).chunk(2, -1);
  return (at::silu(halves[0]) * halves[1]).to(gate_up.scalar_type());
}

Tensor geglu(const Tensor& gate_up) {
  const auto halves = gate_up.to(at::kFloat).chunk(2, -1);
  return (at::gelu(halves[0], "tanh") * halves[1]).to(gate_up.scalar_type());
}

Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts) {
  Tensor sum = at::zeros(x.sizes(), x.options().dtype(at::kFloat));
  for (size_t e = 0; e < experts.size(); ++e) {
    const auto places = chosen.eq(static_cast<int64_t>(e)).nonzero().unbind(1);  // row, choice
    if (places[0].numel() == 0) continue;
    const Tensor inner = ops::swiglu(ops::linear(x.index_select(0, places[0]), experts[e].gate_up));
    const Tensor out = ops::linear(inner, experts[e].down).to(at::kFloat);
    const Tensor weight = weights.index({places[0], places[1]}).unsqueeze(1);
    sum.index_add_(0, places[0], out * weight);
  }
  return sum.to(x.scalar_type());
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  const Tensor cos = table.cos.index_select(0, positions).unsqueeze(1);
  const Tensor sin = table.sin.index_select(0, positions).unsqueeze(1);
  const auto halves = x.to(at::kFloat).chunk(2, -1);
  const Tensor first = halves[0] * cos - halves[1] * sin;
  const Tensor second = halves[1] * cos + halves[0] * sin;
  return at::cat({first, second}, -1).to(x.scalar_type());
}

Tensor segment_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                         double scale) {
  Tensor out = at::empty(q.sizes(), q.options());
  const int32_t* start = starts.const_data_ptr<int32_t>();
  const int64_t heads = q.size(1), segments = starts.numel() - 1;
  // A head of a segment is a piece of work: few windows or few heads still fill the threads.
  const bool inference = c10::InferenceMode::is_enabled();  // a mode of the thread, not of the call
  parallel_for(0, segments * heads, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode mode(inference);
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t s = i / heads, head = i % heads;
      const auto part = [&](const Tensor& x) {
        return x.slice(0, start[s], start[s + 1]).select(1, head).unsqueeze(0).unsqueeze(0);
      };
      part(out).copy_(at::scaled_dot_product_attention(part(q), part(k), part(v), std::nullopt, 0.0,
                                                       false, scale));
    }
  });
  return out;
}

void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                const Tensor& slots) {
  write_slots(as_pages(pool.k[layer], pool), slots, k);
  write_slots(as_pages(pool.v[layer], pool), slots, v);
}

void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots) {
  for (const std::vector<Tensor>* side : {&pool.k, &pool.v}) {
    for (const Tensor& layer : *side) {
      const Tensor pages = as_pages(layer, pool);
      write_slots(pages, to_slots, read_slots(pages, from_slots));
    }
  }
}

Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale, int64_t window) {
  Tensor out = at::empty_like(q);
  const Tensor starts = layout.q_start.cpu(), lengths = layout.kv_len.cpu();
  const int32_t* start = starts.const_data_ptr<int32_t>();
  const int32_t* length = lengths.const_data_ptr<int32_t>();
  const Tensor k_pages = as_pages(pool.k[layer], pool), v_pages = as_pages(pool.v[layer], pool);
  for (int64_t s = 0; s < lengths.numel(); ++s) {
    const int64_t rows = start[s + 1] - start[s];
    if (rows == 0) continue;
    const Tensor page_ids = layout.pages[s];
    const Tensor k = gather_tokens(k_pages, page_ids, length[s], q.size(1));
    const Tensor v = gather_tokens(v_pages, page_ids, length[s], q.size(1));
    const Tensor queries = q.slice(0, start[s], start[s + 1]).to(at::kFloat).transpose(0, 1);
    const Tensor scores = queries.matmul(k.permute({1, 2, 0})) * scale;
    const Tensor seen = visible(layout, s, rows, length[s], window, q.device());
    const Tensor probabilities = at::softmax(
        scores.masked_fill(seen.logical_not(), -std::numeric_limits<float>::infinity()), -1);
    out.slice(0, start[s], start[s + 1])
        .copy_(probabilities.matmul(v.transpose(0, 1)).transpose(0, 1));
  }
  return out;
}

}  // namespace aerie::ops::composed
