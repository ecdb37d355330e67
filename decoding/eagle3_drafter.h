// Guesses of an EAGLE-3 draft, as a chain or as a tree. Its own cache uses the target's slots: the
// pair (state of token i, token i+1) lies at position i. Accepted rows are always written from the
// target's true states; what the draft wrote while guessing never survives, which is just what it
// was trained for.
#pragma once
#include <unordered_map>

#include "decoding/drafter.h"
#include "decoding/guess_tree.h"
#include "draft_models/draft.h"

namespace aerie {

class Eagle3Drafter : public Drafter {
 public:
  /// `dtype`, `device` are the target's. Throws if the vocabulary map does not fit the draft.
  Eagle3Drafter(Eagle3Draft draft, const VocabMap& vocab, at::ScalarType dtype, at::Device device);

  std::vector<int64_t> capture_layers() const override { return draft_.config().capture_layers; }
  void attach(int64_t pages, bool share_prefixes) override;
  /// Rows are kept until guesses are wanted or many have gathered: while nobody asks, and for
  /// answers that end before anybody does, they cost next to nothing.
  void observe(std::span<const Observation> observations) override;
  std::vector<Guess> guess(std::span<Sequence* const> sequences,
                           std::span<const GuessShape> shapes) override;
  void forget(const Sequence& sequence) override { tracks_.erase(sequence.id); }
  int64_t backlog(const Sequence& sequence) const override;
  int64_t cached_rows(const Sequence& sequence) const override;

 private:
  /// What is known of one sequence.
  struct Track {
    Sequence* sequence = nullptr;
    int64_t cached = 0;  ///< rows in the draft's cache
    bool lost = false;   ///< the text is longer than the draft's context
    // Rows behind them that are not in the cache yet.
    std::vector<Tensor> captured;
    std::vector<int32_t> next_tokens;
    // The draft's output for the last cached row: where the next guess starts. Undefined: unknown.
    Tensor hidden, normed;  // [1,C]
  };
  /// Rows of one draft forward; `pages` and `kv_len` belong to the rows that query.
  struct Rows {
    RopePositions rope;
    std::vector<int64_t> tokens = {}, slots = {}, queries = {};
    std::vector<int32_t> kv_len = {};
    Tensor pages = {};
    MediaRows media = {};
  };
  /// A sequence's tree while it grows, and the rows of the last draft step that belong to it.
  struct Branching {
    size_t index;
    Track* track;
    GuessTree tree;
    int64_t first_row = 0, rows = 1;
  };
  /// How trees share the pages behind the target's: `tail` for each of `width` branches of a tree.
  struct BranchPages {
    int64_t width = 1, tail = 1;
  };

  DraftStep run(const Rows& rows, const Tensor& hidden);
  std::vector<int32_t> propose(const Tensor& normed) const;
  void write(std::span<Track* const> tracks);
  std::vector<Track*> ready(std::span<Sequence* const> sequences,
                            std::span<const GuessShape> shapes);
  void guess_chains(std::span<Track* const> tracks, std::span<const GuessShape> shapes,
                    std::vector<Guess>& guesses);
  /// The last guess of every active sequence's chain, which has `depth` before it, as rows to read.
  Rows chain_rows(std::span<Track* const> tracks, std::span<const size_t> active,
                  const std::vector<Guess>& guesses, int64_t depth) const;
  void guess_trees(std::span<Track* const> tracks, std::span<const GuessShape> shapes,
                   std::vector<Guess>& guesses);
  void grow_trees(std::vector<Branching>& trees, const BranchPages& room);
  DraftStep feed_frontiers(std::vector<Branching>& trees, const BranchPages& room,
                           const DraftStep& before);
  int64_t branch_slot(const BranchPages& room, size_t tree, int64_t branch, int64_t row) const;

  Eagle3Draft draft_;
  std::vector<int32_t> to_target_;
  at::ScalarType dtype_;
  at::Device device_;
  double scale_;
  KvPool pool_;
  int64_t shared_pages_ = 0;  // the target's; those behind are for branches of trees
  int64_t write_rows_ = 0;    // of a sequence that are written without being asked for
  std::unordered_map<int64_t, Track> tracks_;
};

}  // namespace aerie
