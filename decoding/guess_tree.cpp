#include "decoding/guess_tree.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/threads.h"

namespace aerie {

namespace {

TopTokens top_of_row(std::span<const float> logits, float log_sum, int64_t count) {
  // A row is long and the selection short: most values fail against the worst that is kept.
  TopTokens best;
  for (size_t id = 0; id < logits.size(); ++id) {
    const bool full = static_cast<int64_t>(best.ids.size()) == count;
    if (full && logits[id] <= best.log_probabilities.back()) continue;
    const auto place =
        std::upper_bound(best.log_probabilities.begin(), best.log_probabilities.end(), logits[id],
                         [](float value, float other) { return value > other; });
    best.ids.insert(best.ids.begin() + (place - best.log_probabilities.begin()),
                    static_cast<int32_t>(id));
    best.log_probabilities.insert(place, logits[id]);
    if (!full) continue;
    best.ids.pop_back();
    best.log_probabilities.pop_back();
  }
  for (float& value : best.log_probabilities) value -= log_sum;
  return best;
}

}  // namespace

std::vector<TopTokens> top_tokens(const Tensor& logits, int64_t count) {
  const Tensor rows = logits.to(at::kCPU).contiguous();
  const Tensor log_sums = rows.logsumexp(1);
  const float *data = rows.const_data_ptr<float>(), *log_sum = log_sums.const_data_ptr<float>();
  const size_t width = rows.size(1);
  std::vector<TopTokens> top(rows.size(0));
  parallel_for(0, rows.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      top[row] = top_of_row({data + row * width, width}, log_sum[row], count);
    }
  });
  return top;
}

void GuessTree::grow(std::span<const TopTokens> children) {
  const std::vector<int32_t> parents = levels_ == 0 ? std::vector<int32_t>{-1} : frontier_;
  std::vector<int32_t> added;
  for (size_t i = 0; i < children.size(); ++i) {
    const float before = parents[i] < 0 ? 0.0f : nodes_[parents[i]].score;
    for (size_t c = 0; c < children[i].ids.size(); ++c) {
      added.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back({children[i].ids[c], parents[i], static_cast<int32_t>(i),
                        before + children[i].log_probabilities[c]});
    }
  }
  frontier_ = most_likely(std::move(added), shape_.width);
  ++levels_;
}

std::vector<int32_t> GuessTree::most_likely(std::vector<int32_t> candidates, int64_t count) const {
  // Of equals the earlier one, which a parent is to its child.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [this](int32_t a, int32_t b) { return nodes_[a].score > nodes_[b].score; });
  if (static_cast<int64_t>(candidates.size()) > count) candidates.resize(count);
  return candidates;
}

Guess GuessTree::best() const {
  std::vector<int32_t> all(nodes_.size());
  std::iota(all.begin(), all.end(), 0);
  const std::vector<int32_t> kept = most_likely(std::move(all), shape_.nodes);
  // Children of each node (the last entry: of the known token), the likeliest last: a stack.
  std::vector<std::vector<int32_t>> children(nodes_.size() + 1);
  const auto children_of = [&](int32_t node) -> std::vector<int32_t>& {
    return children[node < 0 ? nodes_.size() : node];
  };
  for (auto it = kept.rbegin(); it != kept.rend(); ++it) {
    children_of(nodes_[*it].parent).push_back(*it);
  }
  Guess guess;
  std::vector<std::pair<int32_t, int32_t>> open;  // node, row of its parent
  const auto open_children = [&](int32_t node, int32_t row) {
    for (const int32_t child : children_of(node)) open.emplace_back(child, row);
  };
  open_children(-1, -1);
  while (!open.empty()) {
    const auto [node, parent_row] = open.back();
    open.pop_back();
    const int32_t row = static_cast<int32_t>(guess.tokens.size());
    guess.tokens.push_back(nodes_[node].token);
    guess.parents.push_back(parent_row);
    guess.chances.push_back(std::exp(nodes_[node].score));
    open_children(node, row);
  }
  return guess;
}

}  // namespace aerie
