// Guesses of an EAGLE-3 draft. Its own cache uses the target's slots: the pair (state of token i,
// token i+1) lies at position i. Accepted rows are always rewritten from the target's true states;
// what the draft wrote while guessing never survives, which is just what it was trained for.
#pragma once
#include <unordered_map>

#include "decoding/drafter.h"
#include "draft_models/draft.h"

namespace aerie {

class Eagle3Drafter : public Drafter {
 public:
  /// `dtype`, `device` are the target's. Throws if the vocabulary map does not fit the draft.
  Eagle3Drafter(Eagle3Draft draft, const VocabMap& vocab, at::ScalarType dtype, at::Device device);

  std::vector<int64_t> capture_layers() const override { return draft_.config().capture_layers; }
  void attach(int64_t pages) override;
  void observe(std::span<const Observation> observations) override;
  std::vector<std::vector<int32_t>> guess(std::span<Sequence* const> sequences,
                                          std::span<const int64_t> depths) override;
  void forget(const Sequence& sequence) override { states_.erase(sequence.id); }

 private:
  // Where the next guess starts: the draft's output for the newest pair.
  struct State {
    int64_t position;
    Tensor hidden, normed;  // [1,C]
  };
  // Rows of one draft forward; `sequences` and `last_positions` belong to the rows that query.
  struct Rows {
    RopePositions rope;
    std::vector<int64_t> tokens = {}, slots = {}, queries = {};
    std::vector<Sequence*> sequences = {};
    std::vector<int32_t> kv_len = {};
  };
  DraftStep run(const Rows& rows, const Tensor& hidden);
  std::vector<int32_t> propose(const Tensor& normed) const;

  Eagle3Draft draft_;
  std::vector<int32_t> to_target_;
  at::ScalarType dtype_;
  at::Device device_;
  double scale_;
  KvPool pool_;
  std::unordered_map<int64_t, State> states_;
};

}  // namespace aerie
