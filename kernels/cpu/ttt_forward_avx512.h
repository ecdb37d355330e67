// Forward of training-time-test attention, and the packing of keys. The two products are left to
// `Products`; everything has internal linkage.
#pragma once
#include "kernels/cpu/ttt_tiles_avx512.h"

namespace aerie::cpu {
namespace {

/// Scores of one row's seen keys (unscaled) and its step scores (scaled) -> weights e^(s - max) as
/// bf16, zero elsewhere up to `width`, and `own` in place. Returns max and sum.
struct RowSoftmax {
  float max, sum;
};

RowSoftmax softmax_row(bf16* weights, const float* scores, const SeenKeys& keys, int64_t width,
                       float scale, float* own, int64_t steps) {
  const int64_t first = keys.first / 16 * 16;
  const __m512 lowest = _mm512_set1_ps(-3e38f), factor = _mm512_set1_ps(scale);
  __m512 max = lowest;
  for (int64_t i = first; i < keys.last; i += 16) {
    max = _mm512_max_ps(max, _mm512_mask_loadu_ps(lowest, seen_lanes(keys, i), scores + i));
  }
  max = _mm512_mul_ps(max, factor);
  for (int64_t i = 0; i < steps; i += 16) {
    max = _mm512_max_ps(max, _mm512_mask_loadu_ps(lowest, lanes(steps - i), own + i));
  }
  const float top = _mm512_reduce_max_ps(max);
  max = _mm512_set1_ps(top);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = first; i < keys.last; i += 16) {
    const __mmask16 mask = seen_lanes(keys, i);
    const __m512 e = _mm512_maskz_mov_ps(
        mask, exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor, max)));
    sum = _mm512_add_ps(sum, e);
    narrow(weights + i, e);
  }
  clear_unseen(weights, keys, width);
  for (int64_t i = 0; i < steps; i += 16) {
    const __mmask16 mask = lanes(steps - i);
    const __m512 e = _mm512_maskz_mov_ps(
        mask, exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, own + i), max)));
    sum = _mm512_add_ps(sum, e);
    _mm512_mask_storeu_ps(own + i, mask, e);
  }
  return {top, _mm512_reduce_add_ps(sum)};
}

void store_row(bf16* out, const float* sums, float factor, int64_t d) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < d; i += 16) narrow(out + i, _mm512_mul_ps(f, _mm512_loadu_ps(sums + i)));
}

void pack_keys(const AttentionView& in, const AttentionPacks& packs,
               const AttentionDocument& document, int64_t chunk, int64_t kv_head) {
  const int64_t stride = in.kv_heads * in.d,
                count = std::min(kAttentionChunk, document.keys - chunk);
  const int64_t source = (document.first + chunk) * stride + kv_head * in.d;
  const int64_t target = (kv_head * in.padded_keys + document.key_at + chunk) * in.d;
  if (packs.k_turned)
    pack_turned_chunk(packs.k_turned + target, in.k + source, stride, count, in.d);
  if (packs.v_turned)
    pack_turned_chunk(packs.v_turned + target, in.v + source, stride, count, in.d);
  if (packs.k_paired) pack_paired(packs.k_paired + target, in.k + source, stride, count, in.d);
  if (packs.v_paired) pack_paired(packs.v_paired + target, in.v + source, stride, count, in.d);
}

template <typename Products>
void attention_forward(const AttentionView& in, const AttentionPacks& packs,
                       const AttentionForward& io, const AttentionDocument& document, int64_t tile,
                       int64_t kv_head, float* work) {
  const Products products;
  const QueryTile queries = query_tile(in, document, tile);
  const auto [begin, count, oldest, shape] = queries;
  const auto [chunks, width, strip, weight_stride] = shape;
  const int64_t d = in.d;
  float* scores = work;
  auto* weights = reinterpret_cast<bf16*>(scores + 16 * strip);
  float* sums = reinterpret_cast<float*>(weights + 16 * weight_stride);
  auto* q = reinterpret_cast<bf16*>(sums + 16 * d);
  const int64_t packed = (kv_head * in.padded_keys + document.key_at + oldest) * d;
  const int64_t group = in.heads / in.kv_heads;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    copy_tile(q, in.q + (begin * in.heads + head) * d, in.heads * d, count, d);
    products.multiply_turned(scores, strip, q, packs.k_turned + packed, chunks * 2, d);
    float own[16][kMaxAttentionSteps];
    RowSoftmax row[16];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = ((begin + i) * in.kv_heads + kv_head) * d;
      for (int64_t s = 0; s < in.steps; ++s)
        own[i][s] = in.scale * dot(q + i * d, in.k_steps[s] + at, d);
      row[i] = softmax_row(weights + i * weight_stride, scores + i * strip,
                           seen_keys(in, document, queries, i), width, in.scale, own[i], in.steps);
    }
    products.multiply_paired(sums, weights, weight_stride, packs.v_paired + packed, chunks, d,
                             false);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = ((begin + i) * in.kv_heads + kv_head) * d;
      for (int64_t s = 0; s < in.steps; ++s)
        add_scaled(sums + i * d, own[i][s], in.v_steps[s] + at, d);
      const int64_t out = (begin + i) * in.heads + head;
      store_row(io.out + out * d, sums + i * d, 1 / row[i].sum, d);
      io.lse[out] = row[i].max + __builtin_logf(row[i].sum);
    }
  }
}

}  // namespace
}  // namespace aerie::cpu
