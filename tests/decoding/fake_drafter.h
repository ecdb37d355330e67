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
      // Each row once and in order: row i is observed with token i + 1.
      if (text.empty()) text.push_back(seen.sequence->tokens[0]);
      AERIE_CHECK(static_cast<int64_t>(text.size()) == seen.first_position + 1,
                  "observed position {} after {} rows", seen.first_position, text.size() - 1);
      AERIE_CHECK(seen.captured.size(0) == static_cast<int64_t>(seen.next_tokens.size()),
                  "states of {} rows for {} tokens", seen.captured.size(0),
                  seen.next_tokens.size());
      text.insert(text.end(), seen.next_tokens.begin(), seen.next_tokens.end());
    }
  }

  std::vector<std::vector<int32_t>> guess(std::span<Sequence* const> sequences,
                                          std::span<const int64_t> depths) override {
    std::vector<std::vector<int32_t>> guesses;
    for (size_t s = 0; s < sequences.size(); ++s) {
      std::vector<int32_t> text = texts_.at(sequences[s]->id);
      AERIE_CHECK(text == sequences[s]->tokens, "the drafter saw another text than was decoded");
      guesses.emplace_back();
      for (int64_t depth = 0; depth < depths[s]; ++depth) {
        int32_t token = model_.greedy_after(text);
        if (!right_at(static_cast<int64_t>(text.size()))) {
          token = static_cast<int32_t>((token + 1) % model_.config().vocab);
        }
        guesses.back().push_back(token);
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
