#include "trainer/dual_stream.h"

#include <cmath>

#include "common/error.h"
#include "data/draws.h"

namespace aerie {
namespace {

constexpr double kLeastShare = 1e-8;

struct NoisyRow {
  int64_t token, position;
  bool masked;
  int64_t label = 0;
};

/// A block with masks: its rows in the order in which they see each other.
struct Copy {
  int64_t base = 0;  // clean row before the block
  std::vector<NoisyRow> rows;
  double weight = 0;  // of its masks
};

/// A packed batch as plain arrays.
struct Text {
  const int64_t* tokens;
  const bool* assistant;
  const int32_t* starts;
  int64_t documents, rows;
};

/// Which of [0, count) are masked: `chosen` of them, all choices equally likely. Draws count from
/// `draw` on.
std::vector<bool> choose(int64_t count, int64_t chosen, uint64_t key, uint64_t draw) {
  std::vector<bool> masked(count);
  for (int64_t i = 0; i < count && chosen > 0; ++i) {
    const auto left = static_cast<double>(count - i);
    if (uniform_draw(key, draw + i) * left >= static_cast<double>(chosen)) continue;
    masked[i] = true;
    --chosen;
  }
  return masked;
}

/// The copy of clean rows [begin, end) of the document that starts at `start`; without rows if none
/// of them is to be masked.
Copy make_copy(const Text& text, int64_t start, int64_t begin, int64_t end, uint64_t key) {
  Copy copy;
  copy.base = begin - 1;
  std::vector<int64_t> maskable;
  for (int64_t row = begin; row < end; ++row) {
    if (text.assistant[row]) maskable.push_back(row);
  }
  const uint64_t draw = static_cast<uint64_t>(begin - start) * 2;  // at most two a row
  const double share = std::max(uniform_draw(key, draw), kLeastShare);
  const auto count = static_cast<int64_t>(maskable.size());
  const auto chosen = static_cast<int64_t>(std::nearbyint(static_cast<double>(count) * share));
  if (chosen == 0) return copy;
  const std::vector<bool> masked = choose(count, chosen, key, draw + 1);
  std::vector<NoisyRow> masks;
  for (int64_t row = begin, seen = 0; row < end; ++row) {
    const int64_t position = row - start;
    if (text.assistant[row] && masked[seen++]) {
      masks.push_back({0, position, true, text.tokens[row]});
    } else {
      copy.rows.push_back({text.tokens[row], position, false});
    }
  }
  copy.rows.insert(copy.rows.end(), masks.begin(), masks.end());
  copy.weight = 1 / (share + kLeastShare);
  return copy;
}

std::vector<Copy> make_copies(const Text& text, std::span<const uint64_t> keys, int64_t block) {
  std::vector<Copy> copies;
  for (int64_t s = 0; s < text.documents; ++s) {
    const int64_t start = text.starts[s], end = text.starts[s + 1];
    for (int64_t begin = start + block; begin < end; begin += block) {
      Copy copy = make_copy(text, start, begin, std::min(begin + block, end), keys[s]);
      if (!copy.rows.empty()) copies.push_back(std::move(copy));
    }
  }
  return copies;
}

/// Rows and labels as they grow.
struct Lists {
  std::vector<int64_t> tokens, positions, loss_rows, labels;
  std::vector<uint8_t> masked;
  std::vector<float> weights;
};

void add_clean_rows(const Text& text, Lists& lists) {
  for (int64_t s = 0; s < text.documents; ++s) {
    for (int64_t row = text.starts[s]; row < text.starts[s + 1]; ++row) {
      lists.tokens.push_back(text.tokens[row]);
      lists.positions.push_back(row - text.starts[s]);
      lists.masked.push_back(0);
    }
  }
}

/// Copies that reach column `index`, by their place in the column before.
DualStream::Column make_column(const std::vector<Copy>& copies, int64_t index, int64_t begin,
                               const std::vector<DualStream::Column>& before) {
  DualStream::Column column;
  column.begin = begin;
  std::vector<int64_t> base, reached;
  for (const Copy& copy : copies) {
    if (index < static_cast<int64_t>(copy.rows.size())) base.push_back(copy.base);
  }
  column.base = at::tensor(base, at::kLong);
  for (int64_t earlier = 0; earlier <= index; ++earlier) {
    std::vector<int64_t> rows;
    int64_t place = 0;
    for (const Copy& copy : copies) {
      const auto size = static_cast<int64_t>(copy.rows.size());
      if (index < size) rows.push_back(place);
      place += earlier < size;
    }
    const bool all = earlier == index || before[earlier].rows() == column.rows();
    column.earlier.push_back(all ? Tensor() : at::tensor(rows, at::kLong));
  }
  return column;
}

void add_copies(const std::vector<Copy>& copies, DualStream& plan, Lists& lists) {
  size_t longest = 0;
  for (const Copy& copy : copies) longest = std::max(longest, copy.rows.size());
  for (size_t index = 0; index < longest; ++index) {
    const auto begin = static_cast<int64_t>(lists.tokens.size()) - plan.clean;
    plan.columns.push_back(make_column(copies, static_cast<int64_t>(index), begin, plan.columns));
    for (const Copy& copy : copies) {
      if (index >= copy.rows.size()) continue;
      const NoisyRow& row = copy.rows[index];
      if (row.masked) {
        lists.loss_rows.push_back(static_cast<int64_t>(lists.tokens.size()));
        lists.labels.push_back(row.label);
        lists.weights.push_back(static_cast<float>(copy.weight));
        ++plan.masks;
      }
      lists.tokens.push_back(row.token);
      lists.positions.push_back(row.position);
      lists.masked.push_back(row.masked);
    }
  }
}

void add_next_tokens(const Text& text, DualStream& plan, Lists& lists) {
  for (int64_t s = 0; s < text.documents; ++s) {
    for (int64_t row = text.starts[s]; row + 1 < text.starts[s + 1]; ++row) {
      if (!text.assistant[row + 1]) continue;
      lists.loss_rows.push_back(row);
      lists.labels.push_back(text.tokens[row + 1]);
      lists.weights.push_back(1);
      ++plan.next;
    }
  }
}

/// Two means, weighed: the masks' by their own weights.
void normalise(const DualStream& plan, double ar_weight, std::vector<float>& weights) {
  double sum = 0;
  for (int64_t i = 0; i < plan.masks; ++i) sum += weights[i];
  for (int64_t i = 0; i < plan.masks + plan.next; ++i) {
    const double share =
        i < plan.masks ? weights[i] / sum : ar_weight / static_cast<double>(plan.next);
    weights[i] = static_cast<float>(share / (1 + ar_weight));
  }
}

}  // namespace

DualStream plan_dual_stream(const Tensor& tokens, const Tensor& loss_mask, const Tensor& q_start,
                            std::span<const uint64_t> keys, const DualStreamRule& rule) {
  const Text text{tokens.const_data_ptr<int64_t>(), loss_mask.const_data_ptr<bool>(),
                  q_start.const_data_ptr<int32_t>(), q_start.numel() - 1, tokens.numel()};
  AERIE_CHECK(static_cast<int64_t>(keys.size()) == text.documents, "{} keys for {} documents",
              keys.size(), text.documents);
  DualStream plan;
  plan.clean = text.rows;
  plan.q_start = q_start;
  Lists lists;
  add_clean_rows(text, lists);
  add_copies(make_copies(text, keys, rule.block), plan, lists);
  add_next_tokens(text, plan, lists);
  normalise(plan, rule.ar_weight, lists.weights);
  plan.tokens = at::tensor(lists.tokens, at::kLong);
  plan.positions = at::tensor(lists.positions, at::kLong);
  plan.masked = at::tensor(lists.masked, at::kByte).to(at::kBool);
  plan.loss_rows = at::tensor(lists.loss_rows, at::kLong);
  plan.labels = at::tensor(lists.labels, at::kLong);
  plan.weights = at::tensor(lists.weights, at::kFloat);
  return plan;
}

}  // namespace aerie
