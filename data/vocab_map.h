// The draft's vocabulary: which ids of the target's it can propose.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace aerie {

struct DraftVocabulary {
  at::Tensor draft_to_target;  // [W] i64 ascending, distinct
  int64_t target_size = 0;     // V
  std::string hash;            // of ids and V: binds checkpoints to this vocabulary

  int64_t size() const { return draft_to_target.size(0); }
  at::Tensor d2t() const;  // [W] i64 offsets: target id = i + d2t[i]
  at::Tensor t2d() const;  // [V] bool membership
};

/// The hash of a map [W] i64 into a vocabulary of `target_size` tokens.
std::string vocabulary_hash(const at::Tensor& draft_to_target, int64_t target_size);

/// The `size` most frequent ids by `counts` [V] (occurrences among supervised tokens; the smaller
/// id wins a tie), with `forced` ids in it whatever their count. Throws Error if `forced` does not
/// fit or is out of range. size == V: all ids.
DraftVocabulary make_draft_vocabulary(std::span<const int64_t> counts, int64_t size,
                                      std::span<const int32_t> forced);

/// Share of the occurrences in `counts` whose id the vocabulary has.
double vocabulary_coverage(std::span<const int64_t> counts, const DraftVocabulary& vocabulary);

/// safetensors with d2t, t2d and the hash in its metadata.
void save_draft_vocabulary(const std::filesystem::path& file, const DraftVocabulary& vocabulary);
/// Throws Error naming file and tensor if d2t and t2d are not one map, both ways, or the hash
/// differs.
DraftVocabulary load_draft_vocabulary(const std::filesystem::path& file);
/// From d2t [W] i64 and t2d [V] bool, checked; `origin` stands in messages.
DraftVocabulary draft_vocabulary_from(const at::Tensor& d2t, const at::Tensor& t2d,
                                      const std::string& origin);

}  // namespace aerie
