#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/ragged_helpers.h"

namespace aerie::ops {
namespace {

class RaggedAttention : public ::testing::TestWithParam<std::tuple<at::ScalarType, Shape>> {
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

/// What only the tiled bf16 cache promises: equal bits.
class PagedBf16 : public RaggedAttention {};

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

TEST_P(RaggedAttention, AWindowHidesWhatIsOlder) {
  at::manual_seed(9);
  constexpr int64_t kTokens = 300, kRows = 40, kWindow = 70;
  std::vector<int64_t> pages(19);
  std::iota(pages.begin(), pages.end(), 0);
  History sequence = random_history(kTokens, pages);
  KvPool pool = make_pool(20);
  append(pool, sequence, 0, kTokens);
  const Tensor q = random_queries(kRows);
  const RaggedLayout layout = make_layout({kRows}, {kTokens}, {&sequence});
  const Tensor out = ragged_attention(q, pool, 1, layout, 0.25, kWindow);
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<int64_t> seen(kWindow);
    std::iota(seen.begin(), seen.end(), kTokens - kRows + row + 1 - kWindow);
    expect_rows(out[row], attend_row(q[row], sequence.k, sequence.v, seen, 0.25));
  }
  const Tensor wide = ragged_attention(q, pool, 1, layout, 0.25, kTokens);
  EXPECT_TRUE(at::equal(wide, ragged_attention(q, pool, 1, layout, 0.25)));
}

/// A tree's row stands at its depth, whatever its place among the rows is.
TEST_P(RaggedAttention, AWindowInATree) {
  at::manual_seed(10);
  KvPool pool = make_pool(8);
  History sequence = random_history(30, {4, 2});
  append(pool, sequence, 0, 30);
  RaggedLayout layout = make_layout({4}, {30}, {&sequence});
  layout.tree = at::zeros({1, 4, 4}, at::kBool);
  const std::vector<std::vector<int64_t>> ancestors = {{0}, {0, 1}, {0, 2}, {0, 1, 3}};
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t column : ancestors[row]) layout.tree[0][row][column] = true;
  }
  const Tensor q = random_queries(4);
  for (const int64_t window : {5, 2}) {
    if (q.scalar_type() == at::kFloat && window < 4) {  // the composition wants the tree within it
      EXPECT_ANY_THROW(ragged_attention(q, pool, 1, layout, 0.25, window));
      continue;
    }
    const Tensor out = ragged_attention(q, pool, 1, layout, 0.25, window);
    for (int64_t row = 0; row < 4; ++row) {
      std::vector<int64_t> chain(26);
      std::iota(chain.begin(), chain.end(), 0);
      for (int64_t column : ancestors[row]) chain.push_back(26 + column);
      const std::vector<int64_t> seen(chain.end() - window, chain.end());
      expect_rows(out[row], attend_row(q[row], sequence.k, sequence.v, seen, 0.25));
    }
  }
}

TEST_P(PagedBf16, AWindowKeepsTheBitsWhateverTheCut) {
  at::manual_seed(11);
  constexpr int64_t kTokens = 400, kWindow = 130;
  std::vector<int64_t> pages(25);
  std::iota(pages.begin(), pages.end(), 0);
  History sequence = random_history(kTokens, pages);
  const Tensor q = random_queries(kTokens);
  KvPool pool = make_pool(25);
  append(pool, sequence, 0, kTokens);
  const Tensor whole =
      ragged_attention(q, pool, 1, make_layout({kTokens}, {kTokens}, {&sequence}), 0.2, kWindow);
  for (const int64_t row : {0, 129, 130, 131, 258, 399}) {
    const Tensor alone = ragged_attention(q.slice(0, row, row + 1), pool, 1,
                                          make_layout({1}, {row + 1}, {&sequence}), 0.2, kWindow);
    ASSERT_TRUE(at::equal(alone[0], whole[row])) << row;
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

TEST_P(PagedBf16, AnyCutIntoChunksGivesTheSameBits) {
  at::manual_seed(6);
  constexpr int64_t kTokens = 300;
  std::vector<int64_t> pages(19);
  std::iota(pages.rbegin(), pages.rend(), 1);
  History sequence = random_history(kTokens, pages);
  const Tensor q = random_queries(kTokens);
  KvPool pool = make_pool(20);
  append(pool, sequence, 0, kTokens);
  const Tensor whole =
      ragged_attention(q, pool, 1, make_layout({kTokens}, {kTokens}, {&sequence}), 0.2);
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, 128, 256, 300},
                                           {0, 1, 2, 3, 100, 101, 299, 300},
                                           {0, 17, 130, 131, 250, 300}}) {
    // A fresh pool each time: a chunk must not see what comes after it, not even through the work
    // memory.
    KvPool fresh = make_pool(20);
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const int64_t begin = cuts[i], end = cuts[i + 1];
      append(fresh, sequence, begin, end);
      const Tensor part = ragged_attention(q.slice(0, begin, end), fresh, 1,
                                           make_layout({end - begin}, {end}, {&sequence}), 0.2);
      ASSERT_TRUE(at::equal(part, whole.slice(0, begin, end))) << "rows " << begin << " to " << end;
    }
  }
}

TEST_P(PagedBf16, VerifyRowsEqualSingleRowsWhateverRunsBeside) {
  at::manual_seed(7);
  History sequence = random_history(140, {2, 3, 4, 5, 6, 7, 8, 9, 10}),
          other = random_history(50, {11, 12, 13, 14});
  KvPool pool = make_pool(16);
  append(pool, sequence, 0, 140);
  append(pool, other, 0, 50);
  const Tensor q = random_queries(33);
  const Tensor together =
      ragged_attention(q, pool, 1, make_layout({13, 20}, {140, 50}, {&sequence, &other}), 0.2);
  for (int64_t row = 0; row < 13; ++row) {
    const Tensor alone = ragged_attention(q.slice(0, row, row + 1), pool, 1,
                                          make_layout({1}, {128 + row}, {&sequence}), 0.2);
    ASSERT_TRUE(at::equal(alone[0], together[row])) << row;
  }
}

TEST_P(PagedBf16, TreePathEqualsAChainOfTheSameTokens) {
  at::manual_seed(8);
  History sequence = random_history(36, {1, 2, 3});
  KvPool pool = make_pool(4);
  append(pool, sequence, 0, 36);
  const Tensor q = random_queries(4);
  RaggedLayout layout = make_layout({4}, {36}, {&sequence});
  const Tensor chain = ragged_attention(q, pool, 1, layout, 0.2);
  layout.tree = at::ones({1, 4, 4}, at::kBool).tril();
  EXPECT_TRUE(at::equal(ragged_attention(q, pool, 1, layout, 0.2), chain));
}

// Wherever a tree puts a row and its ancestors, the row's bits are those of the same tokens one
// after another: contexts that end in, at and before the borders of pages and of blocks of 128.
TEST_P(PagedBf16, EveryRowOfATreeEqualsTheChainOfItsAncestors) {
  at::manual_seed(11);
  const std::vector<int64_t> parents = {-1, 0, 1, 0, 3, 1, 5, 6, 0, 8, 2, 3, 4, 9};
  const int64_t rows = static_cast<int64_t>(parents.size());
  for (const int64_t base : {5, 32, 121, 128, 130, 250}) {
    std::vector<int64_t> pages(20);
    std::iota(pages.rbegin(), pages.rend(), 0);
    History tree = random_history(base + rows, pages);
    KvPool pool = make_pool(20);
    append(pool, tree, 0, base + rows);
    const Tensor q = random_queries(rows);
    RaggedLayout layout = make_layout({rows}, {base + rows}, {&tree});
    layout.tree = at::zeros({1, rows, rows}, at::kBool);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t at = row; at >= 0; at = parents[at]) layout.tree[0][row][at] = true;
    }
    const Tensor together = ragged_attention(q, pool, 1, layout, 0.2);
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int64_t> seen;
      for (int64_t at = row; at >= 0; at = parents[at]) seen.insert(seen.begin(), base + at);
      std::vector<int64_t> all(base);
      std::iota(all.begin(), all.end(), 0);
      all.insert(all.end(), seen.begin(), seen.end());
      const Tensor chosen = at::tensor(all, at::kLong);
      History chain{pages, tree.k.index_select(0, chosen), tree.v.index_select(0, chosen)};
      const int64_t length = static_cast<int64_t>(all.size());
      KvPool fresh = make_pool(20);
      append(fresh, chain, 0, length);
      const Tensor alone = ragged_attention(q.slice(0, row, row + 1), fresh, 1,
                                            make_layout({1}, {length}, {&chain}), 0.2);
      ASSERT_TRUE(at::equal(alone[0], together[row])) << "row " << row << " after " << base;
    }
  }
}

TEST_P(RaggedAttention, LeftoversOfAnotherSequenceAreNotSeen) {
  at::manual_seed(9);
  KvPool pool = make_pool(4);
  History sequence = random_history(21, {3, 1}), broken = random_history(32, {3, 1});
  broken.k.fill_(std::nan(""));
  broken.v.fill_(std::nan(""));
  append(pool, broken, 0, 32);
  append(pool, sequence, 0, 21);
  const Tensor q = random_queries(1);
  const Tensor out = ragged_attention(q, pool, 1, make_layout({1}, {21}, {&sequence}), 0.3);
  std::vector<int64_t> seen(21);
  std::iota(seen.begin(), seen.end(), 0);
  expect_rows(out[0], attend_row(q[0], sequence.k, sequence.v, seen, 0.3));
}

TEST_P(PagedBf16, InstructionSetsAgree) {
  at::manual_seed(10);
  History sequence = random_history(150, {2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  KvPool pool = make_pool(16);
  append(pool, sequence, 0, 150);
  const Tensor q = random_queries(40);
  const RaggedLayout layout = make_layout({40}, {150}, {&sequence});
  for (aerie::cpu::Isa isa : {aerie::cpu::Isa::kPortable, aerie::cpu::Isa::kAvx2,
                              aerie::cpu::Isa::kAvx512, aerie::cpu::Isa::kAmx}) {
    if (isa > aerie::cpu::best_isa()) continue;
    const Tensor out = ops::cpu::ragged_attention(q, pool, 1, layout, 0.2, isa);
    const Tensor plain =
        ops::cpu::ragged_attention(q, pool, 1, layout, 0.2, aerie::cpu::Isa::kPortable);
    EXPECT_LE((out.to(at::kFloat) - plain.to(at::kFloat)).abs().max().item<float>(), 1e-2)
        << aerie::cpu::isa_name(isa);
    // and each by itself promises the same bits for a row alone
    const Tensor alone = ops::cpu::ragged_attention(q.slice(0, 7, 8), pool, 1,
                                                    make_layout({1}, {118}, {&sequence}), 0.2, isa);
    EXPECT_TRUE(at::equal(alone[0], out[7])) << aerie::cpu::isa_name(isa);
  }
}

const auto kHeadShapes =
    ::testing::Values(Shape{9, 3, 64}, Shape{4, 4, 16}, Shape{8, 1, 128}, Shape{2, 1, 80});

INSTANTIATE_TEST_SUITE_P(Types, RaggedAttention,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16),
                                            kHeadShapes));
INSTANTIATE_TEST_SUITE_P(Shapes, PagedBf16,
                         ::testing::Combine(::testing::Values(at::kBFloat16), kHeadShapes));

}  // namespace
}  // namespace aerie::ops
