// The paged cache and attention to it: CUDA kernels against the ATen compositions.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "kernels/composed.h"
#include "tests/kernels/cuda/tested.h"

namespace aerie {
namespace {

class CudaCache : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(11); }
  at::ScalarType type() const { return GetParam(); }

  /// A full pool in CUDA's page order, which is the composition's.
  KvPool pool(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim) const {
    KvPool made{.k = {}, .v = {}, .pages = pages, .kv_heads = kv_heads, .head_dim = head_dim};
    for (auto* side : {&made.k, &made.v}) {
      for (int64_t layer = 0; layer < layers; ++layer) {
        side->push_back(random({pages, kv_heads, KvPool::kPageSize * head_dim}, type()));
      }
    }
    return made;
  }
};

INSTANTIATE_TEST_SUITE_P(Types, CudaCache, testing::Values(at::kFloat, at::kBFloat16));

KvPool clone(const KvPool& pool) {
  KvPool copy = pool;
  for (auto* side : {&copy.k, &copy.v}) {
    for (Tensor& layer : *side) layer = layer.clone();
  }
  return copy;
}

void expect_equal(const KvPool& a, const KvPool& b) {
  for (size_t layer = 0; layer < a.k.size(); ++layer) {
    EXPECT_TRUE(a.k[layer].equal(b.k[layer])) << layer;
    EXPECT_TRUE(a.v[layer].equal(b.v[layer])) << layer;
  }
}

TEST_P(CudaCache, AppendWritesItsSlotsOnly) {
  for (const int64_t head_dim : {6, 64}) {
    KvPool expected = pool(2, 5, 3, head_dim), got = clone(expected);
    const Tensor fused = random({7, 6 * head_dim}, type());
    const Tensor k = fused.slice(1, 0, 3 * head_dim).unflatten(1, {3, head_dim});
    const Tensor v = fused.slice(1, 3 * head_dim, 6 * head_dim).unflatten(1, {3, head_dim});
    const Tensor slots = at::randperm(5 * KvPool::kPageSize, at::kLong).slice(0, 0, 7);
    ops::composed::kv_append_(expected, 1, k, v, slots);
    tested().kv_append_(got, 1, k, v, slots);
    expect_equal(got, expected);
  }
}

TEST_P(CudaCache, MoveReadsBeforeItWrites) {
  KvPool expected = pool(3, 4, 2, 8), got = clone(expected);
  const Tensor from = at::tensor({17, 18, 40, 3}, at::kLong),
               to = at::tensor({16, 17, 18, 40}, at::kLong);
  ops::composed::kv_move_(expected, from, to);
  tested().kv_move_(got, from, to);
  expect_equal(got, expected);
}

TEST_P(CudaCache, MoveOfMoreLayersThanOneLaunchTakes) {
  KvPool expected = pool(130, 2, 1, 8), got = clone(expected);
  const Tensor from = at::tensor({3, 30}, at::kLong), to = at::tensor({4, 5}, at::kLong);
  ops::composed::kv_move_(expected, from, to);
  tested().kv_move_(got, from, to);
  expect_equal(got, expected);
}

/// Chunks of `rows` new rows that end at `lengths` tokens, each in its own shuffled pages.
RaggedLayout make_layout(const std::vector<int32_t>& rows, const std::vector<int32_t>& lengths,
                         int64_t pages) {
  RaggedLayout layout;
  std::vector<int32_t> start{0};
  for (const int32_t count : rows) start.push_back(start.back() + count);
  layout.q_start = at::tensor(start, at::kInt);
  layout.kv_len = at::tensor(lengths, at::kInt);
  layout.max_q = *std::max_element(rows.begin(), rows.end());
  layout.max_kv = *std::max_element(lengths.begin(), lengths.end());
  const int64_t columns = (layout.max_kv + KvPool::kPageSize - 1) / KvPool::kPageSize;
  const auto chunks = int64_t(rows.size());
  layout.pages = at::randperm(pages, at::kInt)
                     .slice(0, 0, chunks * columns)
                     .reshape({chunks, columns})
                     .contiguous();
  return layout;
}

/// A random tree a chunk: every row sees itself and, at random, rows before it.
Tensor make_tree(int64_t chunks, int64_t size) {
  return (at::rand({chunks, size, size}).lt(0.4).tril(-1) + at::eye(size, at::kBool)).to(at::kBool);
}

struct AttentionCase {
  int64_t heads, kv_heads, head_dim;
  std::vector<int32_t> rows, lengths;
  bool tree = false;
};

const std::vector<AttentionCase> kAttentionCases = {
    {4, 2, 64, {1, 1, 1}, {1, 16, 37}},             // decode
    {9, 3, 64, {6, 1, 5}, {70, 33, 5}},             // chains, decode and a fresh prompt
    {8, 1, 128, {20, 3}, {20, 40}},                 // more queries than a tile, one KV head
    {2, 2, 24, {7, 9}, {40, 9}, true},              // trees, odd head size
    {3, 1, 256, {2, 1}, {1100, 600}},               // three splits
    {4, 4, 80, {17, 1, 8}, {529, 512, 513}, true},  // trees over split boundaries
};

TEST_P(CudaCache, RaggedAttention) {
  for (const AttentionCase& c : kAttentionCases) {
    const RaggedLayout base = make_layout(c.rows, c.lengths, 256);
    RaggedLayout layout = base;
    if (c.tree) layout.tree = make_tree(int64_t(c.rows.size()), layout.max_q + 1);
    const KvPool cache = pool(1, 256, c.kv_heads, c.head_dim);
    const int64_t rows = layout.q_start[-1].item<int>();
    const Tensor q = random({rows, c.heads, c.head_dim}, type());
    const double scale = 1 / std::sqrt(double(c.head_dim));
    const Tensor expected = ops::composed::ragged_attention(q, cache, 0, layout, scale);
    set_multiprocessors(1000);  // blocks are few for such a device: long contexts are split
    const auto split = in_every_order(
        [&] { return std::vector{tested().ragged_attention(q, cache, 0, layout, scale)}; });
    set_multiprocessors(1);
    const Tensor whole = tested().ragged_attention(q, cache, 0, layout, scale);
    EXPECT_LE(distance(split[0], expected), tolerance(type())) << c.head_dim;
    EXPECT_TRUE(whole.equal(split[0])) << "splitting changes bits";
  }
}

TEST_P(CudaCache, RowsDoNotDependOnOtherRows) {
  const KvPool cache = pool(1, 128, 2, 64);
  const RaggedLayout layout = make_layout({5, 1, 3}, {550, 17, 300}, 128);
  const Tensor q = random({9, 4, 64}, type());
  const Tensor together = tested().ragged_attention(q, cache, 0, layout, 0.125);
  for (int64_t s = 0; s < 3; ++s) {
    const int32_t begin = layout.q_start[s].item<int>(), end = layout.q_start[s + 1].item<int>();
    const int32_t length = layout.kv_len[s].item<int>();
    for (int32_t row = begin; row < end;
         ++row) {  // alone, the row is the last of a shorter sequence
      RaggedLayout alone = make_layout({1}, {length - (end - 1 - row)}, 128);
      alone.pages = layout.pages.slice(0, s, s + 1).contiguous();
      const Tensor one =
          tested().ragged_attention(q.slice(0, row, row + 1), cache, 0, alone, 0.125);
      EXPECT_TRUE(one[0].equal(together[row])) << "row " << row;
    }
  }
}

TEST_P(CudaCache, HeadSizeThatTheKernelCannotTakeIsRefused) {
  const KvPool cache = pool(1, 4, 1, 12);
  const RaggedLayout layout = make_layout({1}, {3}, 4);
  EXPECT_THROW(tested().ragged_attention(random({1, 1, 12}, type()), cache, 0, layout, 1),
               std::runtime_error);
}

}  // namespace
}  // namespace aerie
