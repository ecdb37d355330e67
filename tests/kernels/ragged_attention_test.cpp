#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops.h"

namespace aerie::ops {
namespace {

constexpr int64_t kPage = KvPool::kPageSize;

/// A sequence's true keys and values, kept plainly beside the pool.
struct History {
  std::vector<int64_t> pages;
  Tensor k, v;  // [T,G,D]
};

struct Shape {
  int64_t heads, kv_heads, head_dim;
};

/// Scalar softmax attention of one query row [H,D] over chosen tokens of k, v [T,G,D].
Tensor attend_row(const Tensor& q, const Tensor& k, const Tensor& v,
                  const std::vector<int64_t>& tokens, double scale) {
  const int64_t heads = q.size(0), group = heads / k.size(1);
  const Tensor chosen = at::tensor(tokens, at::kLong);
  std::vector<Tensor> rows;
  for (int64_t h = 0; h < heads; ++h) {
    const Tensor keys = k.select(1, h / group).index_select(0, chosen).to(at::kDouble);
    const Tensor values = v.select(1, h / group).index_select(0, chosen).to(at::kDouble);
    const Tensor scores = keys.mv(q[h].to(at::kDouble)) * scale;
    const Tensor weights = (scores - scores.max()).exp();
    rows.push_back(values.t().mv(weights) / weights.sum());
  }
  return at::stack(rows).to(at::kFloat);
}

RaggedLayout make_layout(const std::vector<int64_t>& rows, const std::vector<int64_t>& lengths,
                         const std::vector<History*>& sequences) {
  RaggedLayout layout;
  std::vector<int32_t> starts{0}, kv_len;
  std::vector<int64_t> slots;
  size_t most = 0;
  for (const History* sequence : sequences) most = std::max(most, sequence->pages.size());
  std::vector<int32_t> pages;
  for (size_t s = 0; s < rows.size(); ++s) {
    starts.push_back(starts.back() + rows[s]);
    kv_len.push_back(lengths[s]);
    for (int64_t t = lengths[s] - rows[s]; t < lengths[s]; ++t) {
      slots.push_back(sequences[s]->pages[t / kPage] * kPage + t % kPage);
    }
    for (size_t p = 0; p < most; ++p) {
      pages.push_back(p < sequences[s]->pages.size() ? sequences[s]->pages[p] : 0);
    }
    layout.max_q = std::max(layout.max_q, rows[s]);
    layout.max_kv = std::max(layout.max_kv, lengths[s]);
  }
  layout.q_start = at::tensor(starts, at::kInt);
  layout.kv_len = at::tensor(kv_len, at::kInt);
  layout.pages = at::tensor(pages, at::kInt).view({static_cast<int64_t>(rows.size()), -1});
  layout.slots = at::tensor(slots, at::kLong);
  return layout;
}

class RaggedAttention : public testing::TestWithParam<std::tuple<at::ScalarType, Shape>> {
 protected:
  at::ScalarType dtype() const { return std::get<0>(GetParam()); }
  Shape shape() const { return std::get<1>(GetParam()); }
  double tolerance() const { return dtype() == at::kFloat ? 2e-5 : 2e-2; }

  Tensor random_queries(int64_t rows) const {
    return at::randn({rows, shape().heads, shape().head_dim}).to(dtype());
  }
  History random_history(int64_t tokens, std::vector<int64_t> pages) const {
    const std::vector<int64_t> size = {tokens, shape().kv_heads, shape().head_dim};
    return {std::move(pages), at::randn(size).to(dtype()), at::randn(size).to(dtype())};
  }
  KvPool make_pool(int64_t pages) const {
    return make_kv_pool(2, pages, shape().kv_heads, shape().head_dim, dtype(), at::kCPU);
  }
  void append(KvPool& pool, const History& from, int64_t begin, int64_t end) const {
    std::vector<int64_t> slots;
    for (int64_t t = begin; t < end; ++t)
      slots.push_back(from.pages[t / kPage] * kPage + t % kPage);
    kv_append_(pool, 1, from.k.slice(0, begin, end), from.v.slice(0, begin, end),
               at::tensor(slots, at::kLong));
  }
  void expect_rows(const Tensor& actual, const Tensor& expected) const {
    EXPECT_LE((actual.to(at::kFloat) - expected).abs().max().item<float>(), tolerance());
  }
};

TEST_P(RaggedAttention, MixedChunksFollowTheFormula) {
  at::manual_seed(3);
  KvPool pool = make_pool(16);
  std::vector<History> sequences = {random_history(37, {5, 0, 9}), random_history(1, {3}),
                                    random_history(70, {1, 2, 7, 4, 6}), random_history(16, {8})};
  const std::vector<int64_t> rows = {5, 1, 1, 16}, lengths = {37, 1, 70, 16};
  std::vector<History*> pointers;
  for (History& sequence : sequences) {
    append(pool, sequence, 0, sequence.k.size(0));
    pointers.push_back(&sequence);
  }
  const Tensor q = random_queries(23);
  const double scale = 1 / std::sqrt(static_cast<double>(shape().head_dim));
  const Tensor out = ragged_attention(q, pool, 1, make_layout(rows, lengths, pointers), scale);
  for (int64_t s = 0, row = 0; s < 4; ++s) {
    for (int64_t i = 0; i < rows[s]; ++i, ++row) {
      std::vector<int64_t> seen(lengths[s] - rows[s] + i + 1);
      std::iota(seen.begin(), seen.end(), 0);
      expect_rows(out[row], attend_row(q[row], sequences[s].k, sequences[s].v, seen, scale));
    }
  }
}

TEST_P(RaggedAttention, TreeRowsSeeTheirAncestorsOnly) {
  at::manual_seed(4);
  KvPool pool = make_pool(8);
  History sequence = random_history(30, {4, 2});
  append(pool, sequence, 0, 30);
  // A root with two children; the first child has a child: parents = {-1, 0, 0, 1}
  RaggedLayout layout = make_layout({4}, {30}, {&sequence});
  layout.tree = at::zeros({1, 4, 4}, at::kBool);
  const std::vector<std::vector<int64_t>> ancestors = {{0}, {0, 1}, {0, 2}, {0, 1, 3}};
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t column : ancestors[row]) layout.tree[0][row][column] = true;
  }
  const Tensor q = random_queries(4);
  const Tensor out = ragged_attention(q, pool, 1, layout, 0.25);
  for (int64_t row = 0; row < 4; ++row) {
    std::vector<int64_t> seen(26);
    std::iota(seen.begin(), seen.end(), 0);
    for (int64_t column : ancestors[row]) seen.push_back(26 + column);
    expect_rows(out[row], attend_row(q[row], sequence.k, sequence.v, seen, 0.25));
  }
}

TEST_P(RaggedAttention, MovedTokensAreSeenAtTheirNewPlace) {
  at::manual_seed(5);
  KvPool pool = make_pool(4);
  History sequence = random_history(20, {3, 1});
  append(pool, sequence, 0, 20);
  const auto slot = [&](int64_t t) { return sequence.pages[t / kPage] * kPage + t % kPage; };
  // 15 <- 17, 16 <- 15 (overlapping, across a page border), 17 <- 19
  kv_move_(pool, at::tensor({slot(17), slot(15), slot(19)}, at::kLong),
           at::tensor({slot(15), slot(16), slot(17)}, at::kLong));
  std::vector<int64_t> seen(15);
  std::iota(seen.begin(), seen.end(), 0);
  seen.insert(seen.end(), {17, 15, 19});
  const Tensor q = random_queries(1);
  const Tensor out = ragged_attention(q, pool, 1, make_layout({1}, {18}, {&sequence}), 0.3);
  expect_rows(out[0], attend_row(q[0], sequence.k, sequence.v, seen, 0.3));
}

INSTANTIATE_TEST_SUITE_P(Types, RaggedAttention,
                         testing::Combine(testing::Values(at::kFloat, at::kBFloat16),
                                          testing::Values(Shape{9, 3, 64}, Shape{4, 4, 16},
                                                          Shape{8, 1, 128}, Shape{2, 1, 80})));

}  // namespace
}  // namespace aerie::ops
