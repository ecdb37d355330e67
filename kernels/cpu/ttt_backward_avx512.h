// Backward of training-time-test attention: probabilities are recomputed from the log-sum-exp, once
// by queries (dq and the step keys) and once by base keys (dk, dv), so that every sum has one owner
// and one order. The products are left to `Products`; everything has internal linkage.
#pragma once
#include "kernels/cpu/ttt_tiles_avx512.h"

namespace aerie::cpu {
namespace {

void store_rows(bf16* out, int64_t stride, const float* sums, int64_t count, int64_t d) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < d; c += 16)
      narrow(out + i * stride + c, _mm512_loadu_ps(sums + i * d + c));
  }
}

float exponential_of(float x) { return _mm512_cvtss_f32(exponential(_mm512_set1_ps(x))); }

/// d_scores of the seen keys = p (d_p - delta) scale with p = e^(scale s - lse); zero elsewhere up
/// to `width`.
void score_gradients(bf16* d_scores, const float* scores, const float* d_p, const SeenKeys& keys,
                     int64_t width, float scale, float lse, float delta) {
  const __m512 factor = _mm512_set1_ps(scale), all = _mm512_set1_ps(lse),
               own = _mm512_set1_ps(delta);
  for (int64_t i = keys.first / 16 * 16; i < keys.last; i += 16) {
    const __m512 p = exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor, all));
    const __m512 d =
        _mm512_mul_ps(_mm512_mul_ps(p, factor), _mm512_sub_ps(_mm512_loadu_ps(d_p + i), own));
    narrow(d_scores + i, _mm512_maskz_mov_ps(seen_lanes(keys, i), d));
  }
  clear_unseen(d_scores, keys, width);
}

void clear(float* sums, int64_t count) {
  std::memset(sums, 0, static_cast<size_t>(count) * sizeof(float));
}

/// One base key against `queries` queries (a multiple of 16): probabilities and d_scores, zero
/// where the query stands before the key, or at `end` or behind it.
struct KeyColumns {
  const int32_t* position;
  const float *lse, *delta;
};

void key_gradients(bf16* p_out, bf16* d_scores, const float* scores, const float* d_p,
                   const KeyColumns& columns, int64_t queries, int64_t key, int64_t end,
                   float scale) {
  const __m512 factor = _mm512_set1_ps(scale);
  const __m512i key_at = _mm512_set1_epi32(static_cast<int32_t>(key)),
                end_at = _mm512_set1_epi32(static_cast<int32_t>(end));
  for (int64_t i = 0; i < queries; i += 16) {
    const __m512i position = _mm512_loadu_si512(columns.position + i);
    const __mmask16 seen =
        _mm512_mask_cmplt_epi32_mask(_mm512_cmpge_epi32_mask(position, key_at), position, end_at);
    const __m512 s =
        _mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor, _mm512_loadu_ps(columns.lse + i));
    const __m512 p = _mm512_maskz_mov_ps(seen, exponential(s));
    const __m512 gap = _mm512_sub_ps(_mm512_loadu_ps(d_p + i), _mm512_loadu_ps(columns.delta + i));
    narrow(p_out + i, p);
    narrow(d_scores + i, _mm512_mul_ps(_mm512_mul_ps(p, factor), gap));
  }
}

/// The first of `count` ascending base rows that is not before `key`.
int64_t first_at(const int64_t* row, int64_t count, int64_t key) {
  int64_t low = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    if (row[low + half] < key) {
      low += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return low;
}

/// The step keys of one query row and head: adds to dq [d] and to the sums [steps][2][16][d] of row
/// i.
void own_gradients(const AttentionView& in, const bf16* q, const bf16* d_out, int64_t at, float lse,
                   float delta, float* dq, float* step_sums, int64_t i) {
  for (int64_t s = 0; s < in.steps; ++s) {
    const bf16 *k = in.k_steps[s] + at, *v = in.v_steps[s] + at;
    const float p = exponential_of(in.scale * dot(q, k, in.d) - lse);
    const float d_score = p * (dot(d_out, v, in.d) - delta) * in.scale;
    add_scaled(dq, d_score, k, in.d);
    add_scaled(step_sums + (s * 32 + i) * in.d, d_score, q, in.d);
    add_scaled(step_sums + (s * 32 + 16 + i) * in.d, p, d_out, in.d);
  }
}

void pack_queries(const AttentionView& in, const AttentionPacks& packs, const AttentionBackward& io,
                  const AttentionDocument& document, int64_t chunk, int64_t head) {
  const int64_t stride = in.heads * in.d,
                count = std::min(kAttentionChunk, document.queries - chunk);
  const int64_t begin = document.begin + chunk, source = begin * stride + head * in.d;
  const int64_t padded = head * in.padded_queries + document.query_at + chunk,
                target = padded * in.d;
  const auto pack = [&](bf16* turned, bf16* paired, const bf16* from) {
    pack_turned_chunk(turned + target, from + source, stride, count, in.d);
    pack_paired(paired + target, from + source, stride, count, in.d);
  };
  pack(packs.q_turned, packs.q_paired, in.q);
  pack(packs.d_out_turned, packs.d_out_paired, io.d_out);
  for (int64_t i = 0; i < kAttentionChunk; ++i) {
    const bool real = i < count;
    packs.lse[padded + i] = real ? io.lse[(begin + i) * in.heads + head] : 0;
    packs.delta[padded + i] =
        real ? dot(io.out + source + i * stride, io.d_out + source + i * stride, in.d) : 0;
    if (head == 0) {
      packs.position[document.query_at + chunk + i] =
          real ? static_cast<int32_t>(in.row[begin + i]) : -1;
    }
  }
}

template <typename Products>
void attention_backward_queries(const AttentionView& in, const AttentionPacks& packs,
                                const AttentionBackward& io, const AttentionDocument& document,
                                int64_t tile, int64_t kv_head, float* work) {
  const Products products;
  const QueryTile queries = query_tile(in, document, tile);
  const auto [begin, count, oldest, shape] = queries;
  const auto [chunks, width, strip, weight_stride] = shape;
  const int64_t d = in.d;
  float *scores = work, *d_p = scores + 16 * strip;
  auto* d_scores = reinterpret_cast<bf16*>(d_p + 16 * strip);
  float* dq = reinterpret_cast<float*>(d_scores + 16 * weight_stride);
  float* step_sums = dq + 16 * d;
  auto* q = reinterpret_cast<bf16*>(step_sums + in.steps * 32 * d);
  bf16* d_out = q + 16 * d;
  clear(step_sums, in.steps * 32 * d);
  const int64_t packed = (kv_head * in.padded_keys + document.key_at + oldest) * d,
                group = in.heads / in.kv_heads;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const int64_t source = (begin * in.heads + head) * d,
                  padded = head * in.padded_queries + document.query_at + tile;
    copy_tile(q, in.q + source, in.heads * d, count, d);
    copy_tile(d_out, io.d_out + source, in.heads * d, count, d);
    products.multiply_turned(scores, strip, q, packs.k_turned + packed, chunks * 2, d);
    products.multiply_turned(d_p, strip, d_out, packs.v_turned + packed, chunks * 2, d);
    for (int64_t i = 0; i < count; ++i) {
      score_gradients(d_scores + i * weight_stride, scores + i * strip, d_p + i * strip,
                      seen_keys(in, document, queries, i), width, in.scale, packs.lse[padded + i],
                      packs.delta[padded + i]);
    }
    products.multiply_paired(dq, d_scores, weight_stride, packs.k_paired + packed, chunks, d,
                             false);
    for (int64_t i = 0; i < count; ++i) {
      own_gradients(in, q + i * d, d_out + i * d, ((begin + i) * in.kv_heads + kv_head) * d,
                    packs.lse[padded + i], packs.delta[padded + i], dq + i * d, step_sums, i);
    }
    store_rows(io.dq + source, in.heads * d, dq, count, d);
  }
  const int64_t target = (begin * in.kv_heads + kv_head) * d;
  for (int64_t s = 0; s < in.steps; ++s) {
    store_rows(io.dk_steps[s] + target, in.kv_heads * d, step_sums + s * 32 * d, count, d);
    store_rows(io.dv_steps[s] + target, in.kv_heads * d, step_sums + (s * 32 + 16) * d, count, d);
  }
}

template <typename Products>
void attention_backward_keys(const AttentionView& in, const AttentionPacks& packs,
                             const AttentionBackward& io, const AttentionDocument& document,
                             int64_t tile, int64_t kv_head, float* work) {
  const Products products;
  const int64_t d = in.d, count = std::min(kAttentionTile, document.keys - tile),
                key = document.first + tile;
  const int64_t* rows = in.row + document.begin;
  const int64_t first = first_at(rows, document.queries, key) / 32 * 32;
  // Behind it no query sees any key of the tile.
  const int64_t behind = first_at(rows, document.queries, key + count - 1 + in.window);
  const auto [chunks, width, strip, weight_stride] = ScoreShape{(behind - first + 31) / 32};
  float *dk = work, *dv = dk + 16 * d, *scores = dv + 16 * d, *d_p = scores + 16 * strip;
  auto* p = reinterpret_cast<bf16*>(d_p + 16 * strip);
  bf16 *d_scores = p + 16 * weight_stride, *k = d_scores + 16 * weight_stride, *v = k + 16 * d;
  clear(dk, 32 * d);
  const int64_t source = (key * in.kv_heads + kv_head) * d, group = in.heads / in.kv_heads;
  copy_tile(k, in.k + source, in.kv_heads * d, count, d);
  copy_tile(v, in.v + source, in.kv_heads * d, count, d);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group && chunks > 0; ++head) {
    const int64_t padded = head * in.padded_queries + document.query_at + first;
    products.multiply_turned(scores, strip, k, packs.q_turned + padded * d, chunks * 2, d);
    products.multiply_turned(d_p, strip, v, packs.d_out_turned + padded * d, chunks * 2, d);
    const KeyColumns columns{packs.position + document.query_at + first, packs.lse + padded,
                             packs.delta + padded};
    for (int64_t i = 0; i < 16; ++i) {
      key_gradients(p + i * weight_stride, d_scores + i * weight_stride, scores + i * strip,
                    d_p + i * strip, columns, width, key + i, key + i + in.window, in.scale);
    }
    products.multiply_paired(dv, p, weight_stride, packs.d_out_paired + padded * d, chunks, d,
                             true);
    products.multiply_paired(dk, d_scores, weight_stride, packs.q_paired + padded * d, chunks, d,
                             true);
  }
  store_rows(io.dk + source, in.kv_heads * d, dk, count, d);
  store_rows(io.dv + source, in.kv_heads * d, dv, count, d);
}

}  // namespace
}  // namespace aerie::cpu
