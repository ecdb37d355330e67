// ragged_attention on tensors: cuts the chunks into tasks for paged_attention.h.
#include "common/error.h"
#include "common/threads.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/paged_attention.h"

namespace aerie::ops::cpu {
namespace {

using aerie::cpu::AttentionPart;
using aerie::cpu::bf16;
using aerie::cpu::Isa;
using aerie::cpu::PagedChunk;

struct Task {
  int64_t chunk;
  AttentionPart part;
};

auto attention_for(Isa isa) {
  AERIE_CHECK(isa <= aerie::cpu::best_isa(), "ragged_attention: this machine has no {}",
              aerie::cpu::isa_name(isa));
  switch (isa) {
    case Isa::kAmx:
      return aerie::cpu::attend_amx;
    case Isa::kAvx512:
      return aerie::cpu::attend_avx512;
    case Isa::kAvx2:
      return aerie::cpu::attend_avx2;
    case Isa::kPortable:
      break;
  }
  return aerie::cpu::attend_portable;
}

Tensor head_rows(const Tensor& q) {
  return q.stride(2) == 1 && q.stride(1) == q.size(2) ? q : q.contiguous();
}

std::vector<PagedChunk> chunks_of(const Tensor& q, const Tensor& out, const KvPool& pool,
                                  int64_t layer, const RaggedLayout& layout, double scale,
                                  int64_t window) {
  const int32_t *start = layout.q_start.const_data_ptr<int32_t>(),
                *length = layout.kv_len.const_data_ptr<int32_t>();
  PagedChunk common{.q_stride = q.stride(0),
                    .heads = q.size(1),
                    .kv_heads = pool.kv_heads,
                    .head_dim = q.size(2)};
  common.k = static_cast<const bf16*>(pool.k[layer].const_data_ptr());
  common.v = static_cast<const bf16*>(pool.v[layer].const_data_ptr());
  common.scale = static_cast<float>(scale);
  common.window = window;
  std::vector<PagedChunk> chunks(layout.kv_len.numel(), common);
  for (size_t s = 0; s < chunks.size(); ++s) {
    PagedChunk& chunk = chunks[s];
    chunk.q = static_cast<const bf16*>(q.const_data_ptr()) + start[s] * q.stride(0);
    chunk.out = static_cast<bf16*>(out.mutable_data_ptr()) + start[s] * q.size(1) * q.size(2);
    chunk.rows = start[s + 1] - start[s];
    chunk.kv_len = length[s];
    chunk.pages =
        layout.pages.const_data_ptr<int32_t>() + static_cast<int64_t>(s) * layout.pages.size(1);
    AERIE_CHECK(
        chunk.rows <= chunk.kv_len && chunk.kv_len <= layout.pages.size(1) * KvPool::kPageSize,
        "ragged_attention: chunk {} has {} rows, {} visible tokens and {} pages", s, chunk.rows,
        chunk.kv_len, layout.pages.size(1));
    if (layout.tree.defined()) {
      chunk.tree =
          layout.tree.const_data_ptr<bool>() + static_cast<int64_t>(s) * layout.tree.stride(0);
      chunk.tree_stride = layout.tree.stride(1);
    }
  }
  return chunks;
}

/// Each block of a context is laid out once for each part: large parts where there are enough of
/// them for all threads.
int64_t part_size(int64_t queries) {
  constexpr int64_t kSmall = 64, kLarge = 192;
  return queries >= 4 * kLarge ? kLarge : kSmall;
}

/// The longest first, so that the threads end together.
std::vector<Task> tasks_of(const std::vector<PagedChunk>& chunks) {
  std::vector<Task> tasks;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const int64_t queries = chunks[s].rows * (chunks[s].heads / chunks[s].kv_heads),
                  size = part_size(queries);
    for (int64_t head = 0; head < chunks[s].kv_heads; ++head) {
      for (int64_t first = 0; first < queries; first += size) {
        tasks.push_back({static_cast<int64_t>(s), {head, first, std::min(size, queries - first)}});
      }
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
    return chunks[a.chunk].kv_len + a.part.first > chunks[b.chunk].kv_len + b.part.first;
  });
  return tasks;
}

}  // namespace

Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale, Isa isa, int64_t window) {
  const auto attend = attention_for(isa);
  const Tensor queries = head_rows(q);
  Tensor out = at::empty(q.sizes(), q.options());
  const std::vector<PagedChunk> chunks =
      chunks_of(queries, out, pool, layer, layout, scale, window);
  const std::vector<Task> tasks = tasks_of(chunks);
  parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) attend(chunks[tasks[i].chunk], tasks[i].part);
  });
  return out;
}

}  // namespace aerie::ops::cpu
