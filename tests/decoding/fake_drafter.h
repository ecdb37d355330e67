// A drafter that knows the fake target and is right as often as it is told to be.
#pragma once
#include <map>

#include "common/error.h"

#include "decoding/drafter.h"
#include "tests/decoding/fake_model.h"

namespace aerie::testing {

class FakeDrafter : public Drafter {
 public:
  /// Guess number i of the text (its position) is right iff uniform(seed, position) < `skill`.
  FakeDrafter(const FakeModel& model, double skill, uint64_t seed = 7)
      : model_(model), skill_(skill), seed_(seed) {}

  std::vector<int64_t> capture_layers() const override { return {0}; }

  void observe(std::span<const Observation> observations) override {
    for (const Observation& seen : observations) {
      std::vector<int32_t>& text = texts_[seen.sequence->id];
      // Each row once and in order: row i is observed with token i + 1. What was found in the cache
      // is not seen again.
      if (text.empty()) {
        const auto begin = seen.sequence->tokens.begin();
        text.assign(begin, begin + seen.first_position + 1);
      }
      AERIE_CHECK(static_cast<int64_t>(text.size()) == seen.first_position + 1,
                  "observed position {} after {} rows", seen.first_position, text.size() - 1);
      AERIE_CHECK(seen.captured.size(0) == static_cast<int64_t>(seen.next_tokens.size()),
                  "states of {} rows for {} tokens", seen.captured.size(0),
                  seen.next_tokens.size());
      text.insert(text.end(), seen.next_tokens.begin(), seen.next_tokens.end());
    }
  }

  /// A chain; with a width of 2 or more a tree: beside each guess of the chain a wrong one.
  std::vector<Guess> guess(std::span<Sequence* const> sequences,
                           std::span<const GuessShape> shapes) override {
    std::vector<Guess> guesses;
    for (size_t s = 0; s < sequences.size(); ++s) {
      std::vector<int32_t> text = texts_.at(sequences[s]->id);
      AERIE_CHECK(text == sequences[s]->tokens, "the drafter saw another text than was decoded");
      guesses.emplace_back();
      Guess& guess = guesses.back();
      for (int64_t depth = 0; depth < shapes[s].depth; ++depth) {
        int32_t token = model_.greedy_after(text);
        if (!right_at(static_cast<int64_t>(text.size()))) {
          token = static_cast<int32_t>((token + 1) % model_.config().vocab);
        }
        const int64_t nodes = static_cast<int64_t>(guess.tokens.size());
        if (shapes[s].width > 1) {
          if (nodes + 2 > shapes[s].nodes) break;
          const int32_t parent = depth == 0 ? -1 : static_cast<int32_t>(nodes) - 1;
          guess.parents.insert(guess.parents.end(), {parent, parent});
          guess.tokens.push_back(static_cast<int32_t>((token + 2) % model_.config().vocab));
        }
        guess.tokens.push_back(token);
        text.push_back(token);
      }
    }
    return guesses;
  }

  void forget(const Sequence& sequence) override { texts_.erase(sequence.id); }
  bool right_at(int64_t position) const { return counter_uniform(seed_, position) < skill_; }
  size_t remembered() const { return texts_.size(); }

 private:
  const FakeModel& model_;
  double skill_;
  uint64_t seed_;
  std::map<int64_t, std::vector<int32_t>> texts_;
};

}  // namespace aerie::testing
