// A tree of guesses that grows where it is likely and keeps what is likely (EAGLE-2, arXiv
// 2406.16858, section 4). It knows no model: who grows it says what may follow each node.
#pragma once
#include <span>
#include <vector>

#include "decoding/drafter.h"

namespace aerie {

/// What a draft model holds most likely after one row, the best first.
struct TopTokens {
  std::vector<int32_t> ids;
  std::vector<float> log_probabilities;
};

/// logits [R,W] f32 -> the `count` most likely ids of each row, with the logarithm of their share
/// of the whole row; the smaller id first among equals. Rows are shared out over the compute
/// threads.
std::vector<TopTokens> top_tokens(const Tensor& logits, int64_t count);

class GuessTree {
 public:
  explicit GuessTree(GuessShape shape) : shape_(shape) {}

  /// Adds the children of every node of the frontier, in its order; the first time, of the last
  /// known token. The new frontier are the `width` most likely of them.
  void grow(std::span<const TopTokens> children);
  /// More levels may be grown.
  bool growing() const { return levels_ < shape_.depth && (levels_ == 0 || !frontier_.empty()); }

  int64_t levels() const { return levels_; }
  int64_t frontier() const { return static_cast<int64_t>(frontier_.size()); }
  int32_t token(int64_t index) const { return nodes_[frontier_[index]].token; }
  /// Which node of the frontier before this one it is a child of.
  int64_t origin(int64_t index) const { return nodes_[frontier_[index]].origin; }

  /// The `nodes` most likely guesses of all levels. A child is never likelier than its parent, so
  /// they hang together. Each branch is followed to its end before the next one begins: rows that
  /// continue one another lie side by side.
  Guess best() const;

 private:
  struct Node {
    int32_t token, parent, origin;
    float score;  // logarithm of the chance of the whole path
  };
  std::vector<int32_t> most_likely(std::vector<int32_t> candidates, int64_t count) const;

  GuessShape shape_;
  int64_t levels_ = 0;
  std::vector<Node> nodes_;
  std::vector<int32_t> frontier_;
};

}  // namespace aerie
