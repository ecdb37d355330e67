// Where a token's key and value lie in a page (paged_attention.h), and the cache ops on tensors.
#include <cstring>

#include "common/error.h"
#include "common/threads.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/cpu/tensor_bits.h"

namespace aerie::cpu {

void write_key(bf16* page, int64_t offset, const bf16* key, int64_t head_dim) {
  for (int64_t c = 0; c < head_dim; ++c)
    page[c / 2 * 2 * kPageTokens + 2 * offset + c % 2] = key[c];
}

void read_key(bf16* key, const bf16* page, int64_t offset, int64_t head_dim) {
  for (int64_t c = 0; c < head_dim; ++c)
    key[c] = page[c / 2 * 2 * kPageTokens + 2 * offset + c % 2];
}

void write_value(bf16* page, int64_t offset, const bf16* value, int64_t head_dim) {
  bf16* at = page + offset / 2 * 2 * padded_head(head_dim) + offset % 2;
  for (int64_t c = 0; c < head_dim; ++c) at[2 * c] = value[c];
}

void read_value(bf16* value, const bf16* page, int64_t offset, int64_t head_dim) {
  const bf16* at = page + offset / 2 * 2 * padded_head(head_dim) + offset % 2;
  for (int64_t c = 0; c < head_dim; ++c) value[c] = at[2 * c];
}

}  // namespace aerie::cpu

namespace aerie::ops::cpu {
namespace {

using aerie::cpu::bf16;
using aerie::cpu::kPageTokens;
using aerie::cpu::padded_head;

/// A slot's page of one head.
bf16* page_of(bf16* layer, const KvPool& pool, int64_t slot, int64_t head) {
  return layer +
         (slot / kPageTokens * pool.kv_heads + head) * kPageTokens * padded_head(pool.head_dim);
}

void check_slots(const char* op, const KvPool& pool, const int64_t* slots, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    AERIE_CHECK(slots[i] >= 0 && slots[i] < pool.pages * kPageTokens,
                "{}: slot {} is outside the pool's {} pages", op, slots[i], pool.pages);
  }
}

Tensor token_rows(const Tensor& x) {
  const bool dense = x.stride(2) == 1 && x.stride(1) == x.size(2);
  return dense && x.scalar_type() == at::kBFloat16 ? x : x.to(at::kBFloat16).contiguous();
}

}  // namespace

void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                const Tensor& slots) {
  const Tensor keys = token_rows(k), values = token_rows(v), where = slots.contiguous();
  const int64_t* slot = where.const_data_ptr<int64_t>();
  check_slots("kv_append_", pool, slot, k.size(0));
  bf16 *k_layer = mutable_bits(pool.k[layer]), *v_layer = mutable_bits(pool.v[layer]);
  const int64_t head_dim = pool.head_dim;
  const bf16 *from_k = bits(keys), *from_v = bits(values);
  const int64_t k_stride = keys.stride(0), v_stride = values.stride(0);
  parallel_for(0, k.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t head = 0; head < pool.kv_heads; ++head) {
        const int64_t offset = slot[row] % kPageTokens;
        aerie::cpu::write_key(page_of(k_layer, pool, slot[row], head), offset,
                              from_k + row * k_stride + head * head_dim, head_dim);
        aerie::cpu::write_value(page_of(v_layer, pool, slot[row], head), offset,
                                from_v + row * v_stride + head * head_dim, head_dim);
      }
    }
  });
}

void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots) {
  const Tensor from = from_slots.contiguous(), to = to_slots.contiguous();
  const int64_t count = from.numel(), heads = pool.kv_heads, head_dim = pool.head_dim;
  const int64_t *source = from.const_data_ptr<int64_t>(), *target = to.const_data_ptr<int64_t>();
  check_slots("kv_move_", pool, source, count);
  check_slots("kv_move_", pool, target, count);
  std::vector<bf16> held(2 * count * heads * head_dim);
  for (size_t layer = 0; layer < pool.k.size(); ++layer) {
    bf16 *keys = mutable_bits(pool.k[layer]), *values = mutable_bits(pool.v[layer]),
         *at = held.data();
    for (int64_t i = 0; i < count * heads; ++i, at += 2 * head_dim) {
      const int64_t slot = source[i / heads], head = i % heads;
      aerie::cpu::read_key(at, page_of(keys, pool, slot, head), slot % kPageTokens, head_dim);
      aerie::cpu::read_value(at + head_dim, page_of(values, pool, slot, head), slot % kPageTokens,
                             head_dim);
    }
    at = held.data();
    for (int64_t i = 0; i < count * heads; ++i, at += 2 * head_dim) {
      const int64_t slot = target[i / heads], head = i % heads;
      aerie::cpu::write_key(page_of(keys, pool, slot, head), slot % kPageTokens, at, head_dim);
      aerie::cpu::write_value(page_of(values, pool, slot, head), slot % kPageTokens, at + head_dim,
                              head_dim);
    }
  }
}

}  // namespace aerie::ops::cpu
