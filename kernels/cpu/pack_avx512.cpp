#include "kernels/cpu/pack_avx512.h"

#include "kernels/cpu/vector_avx512.h"

namespace aerie::cpu {
namespace {

/// 32 elements of a row as bf16
__m512i load32(const bf16* at) { return _mm512_loadu_si512(at); }
__m512i load32(const float* at) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(at + 16), _mm512_loadu_ps(at));
}

/// 16 elements of a row as bf16 in the low halves of dwords
__m512i load16(const bf16* at) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}
__m512i load16(const float* at) {
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(at)));
}

/// Two rows interleaved element by element
template <typename T>
__m512i pair_rows(const T* even, const T* odd) {
  return _mm512_or_si512(load16(even), _mm512_slli_epi32(load16(odd), 16));
}

template <typename T>
void pack_nk(bf16* tile, const T* source, int64_t ld) {
  __m512i rows[16];
  for (int64_t i = 0; i < 16; ++i) rows[i] = load32(source + i * ld);
  transpose16(rows);
  for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(tile + i * 32, rows[i]);
}

/// The rows of the block after next: they lie far apart, where the hardware does not look ahead.
template <typename T>
void fetch_ahead(const T* source, int64_t ld) {
  for (int64_t i = 64; i < 96; ++i)
    _mm_prefetch(reinterpret_cast<const char*>(source + i * ld), _MM_HINT_T0);
}

template <typename T>
void pack_kn(bf16* tile, const T* source, int64_t ld) {
  fetch_ahead(source, ld);
  for (int64_t i = 0; i < 16; ++i, source += 2 * ld) {
    _mm512_storeu_si512(tile + i * 32, pair_rows(source, source + ld));
  }
}

}  // namespace

void pack_tile_nk_avx512(bf16* tile, const bf16* source, int64_t ld) { pack_nk(tile, source, ld); }
void pack_tile_nk_avx512(bf16* tile, const float* source, int64_t ld) { pack_nk(tile, source, ld); }
void pack_tile_kn_avx512(bf16* tile, const bf16* source, int64_t ld) { pack_kn(tile, source, ld); }
void pack_tile_kn_avx512(bf16* tile, const float* source, int64_t ld) { pack_kn(tile, source, ld); }

void turn_block_avx512(bf16* out, int64_t out_ld, const bf16* source, int64_t ld) {
  fetch_ahead(source, ld);
  for (int64_t half = 0; half < 32; half += 16) {
    __m512i rows[16];
    for (int64_t i = 0; i < 16; ++i) {
      rows[i] = pair_rows(source + 2 * i * ld + half, source + (2 * i + 1) * ld + half);
    }
    transpose16(rows);
    for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(out + (half + i) * out_ld, rows[i]);
  }
}

}  // namespace aerie::cpu
