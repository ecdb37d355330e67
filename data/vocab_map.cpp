#include "data/vocab_map.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <numeric>

#include "common/error.h"
#include "common/files.h"
#include "data/safetensors.h"

namespace aerie {
namespace {

/// All ids, most frequent first.
std::vector<int64_t> by_frequency(std::span<const int64_t> counts) {
  std::vector<int64_t> ids(counts.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  return ids;
}

double share(double part, std::span<const int64_t> counts) {
  const double all = std::accumulate(counts.begin(), counts.end(), 0.0);
  return all == 0 ? 0 : part / all;
}

}  // namespace

std::string vocabulary_hash(const at::Tensor& ids, int64_t target_size) {
  const at::Tensor flat = ids.contiguous();
  const std::string_view bytes(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes());
  return fmt::format("{:016x}", hash_bytes(bytes, static_cast<uint64_t>(target_size)));
}

at::Tensor DraftVocabulary::d2t() const { return draft_to_target - at::arange(size()); }

at::Tensor DraftVocabulary::t2d() const {
  return at::zeros({target_size}, at::kBool).index_fill_(0, draft_to_target, true);
}

DraftVocabulary make_draft_vocabulary(std::span<const int64_t> counts, int64_t size,
                                      std::span<const int32_t> forced) {
  const auto vocab = static_cast<int64_t>(counts.size());
  AERIE_CHECK(0 < size && size <= vocab,
              "draft.vocab_size is {}: give 1 to {} (the target's "
              "vocabulary)",
              size, vocab);
  std::vector<bool> in(counts.size(), false);
  int64_t taken = 0;
  const auto take = [&](int64_t id) {
    taken += !in[static_cast<size_t>(id)];
    in[static_cast<size_t>(id)] = true;
  };
  for (const int32_t id : forced) {
    AERIE_CHECK(0 <= id && id < vocab, "special id {} is outside the target's vocabulary of {}", id,
                vocab);
    take(id);
  }
  AERIE_CHECK(taken <= size,
              "draft.vocab_size is {} and the {} special ids alone do not fit: make "
              "it larger",
              size, taken);
  for (const int64_t id : by_frequency(counts)) {
    if (taken == size) break;
    take(id);
  }
  std::vector<int64_t> ids;
  for (int64_t id = 0; id < vocab; ++id)
    if (in[static_cast<size_t>(id)]) ids.push_back(id);
  DraftVocabulary vocabulary{at::tensor(ids, at::kLong), vocab, ""};
  vocabulary.hash = vocabulary_hash(vocabulary.draft_to_target, vocab);
  return vocabulary;
}

double vocabulary_coverage(std::span<const int64_t> counts, const DraftVocabulary& vocabulary) {
  double covered = 0;
  const int64_t* ids = vocabulary.draft_to_target.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < vocabulary.size(); ++i)
    covered += static_cast<double>(counts[static_cast<size_t>(ids[i])]);
  return share(covered, counts);
}

void save_draft_vocabulary(const fs::path& file, const DraftVocabulary& vocabulary) {
  write_safetensors(file, {{"d2t", vocabulary.d2t()}, {"t2d", vocabulary.t2d()}},
                    {{"hash", vocabulary.hash}});
}

DraftVocabulary draft_vocabulary_from(const at::Tensor& d2t, const at::Tensor& t2d,
                                      const std::string& origin) {
  AERIE_CHECK(d2t.dim() == 1 && d2t.scalar_type() == at::kLong && d2t.size(0) > 0,
              "{}: d2t must be a list of int64 offsets", origin);
  AERIE_CHECK(t2d.dim() == 1 && t2d.scalar_type() == at::kBool,
              "{}: t2d must be a list of bool, one for each id of the target", origin);
  const int64_t vocab = t2d.size(0);
  const at::Tensor ids = d2t + at::arange(d2t.size(0));
  AERIE_CHECK(ids.min().item<int64_t>() >= 0 && ids.max().item<int64_t>() < vocab,
              "{}: i + d2t[i] leaves the target's vocabulary of {} (are these absolute ids?)",
              origin, vocab);
  const at::Tensor member = at::zeros({vocab}, at::kBool).index_fill_(0, ids, true);
  AERIE_CHECK(member.sum().item<int64_t>() == ids.size(0), "{}: i + d2t[i] repeats an id", origin);
  AERIE_CHECK(member.equal(t2d), "{}: t2d does not mark exactly the ids i + d2t[i]", origin);
  return {ids, vocab, vocabulary_hash(ids, vocab)};
}

DraftVocabulary load_draft_vocabulary(const fs::path& file) {
  const SafetensorsFile read(file);
  DraftVocabulary vocabulary =
      draft_vocabulary_from(read.tensor("d2t"), read.tensor("t2d"), file.string());
  const auto hash = read.metadata().find("hash");
  AERIE_CHECK(hash != read.metadata().end() && hash->second == vocabulary.hash,
              "{}: the hash in the file is not that of its ids: prepare the data again",
              file.string());
  return vocabulary;
}

}  // namespace aerie
