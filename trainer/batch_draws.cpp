#include "trainer/batch_draws.h"

#include <ATen/CPUGeneratorImpl.h>

#include "common/error.h"
#include "common/files.h"
#include "data/draws.h"

namespace aerie {

std::vector<uint64_t> document_keys(std::span<const std::string> documents, int64_t epoch,
                                    uint64_t seed) {
  const uint64_t run = split_mix(seed) + static_cast<uint64_t>(epoch);
  std::vector<uint64_t> keys;
  for (const std::string& name : documents) {
    keys.push_back(split_mix(hash_bytes(name) ^ split_mix(run)));
  }
  return keys;
}

std::vector<uint64_t> document_keys(const TrainBatch& batch, uint64_t seed) {
  AERIE_CHECK(static_cast<int64_t>(batch.documents.size()) == batch.q_start.numel() - 1,
              "the batch names {} of its {} documents", batch.documents.size(),
              batch.q_start.numel() - 1);
  return document_keys(batch.documents, batch.epoch, seed);
}

void add_feature_noise(TrainBatch& batch, double amplitude, std::span<const uint64_t> keys) {
  const int32_t* starts = batch.q_start.const_data_ptr<int32_t>();
  const int64_t width = batch.captured.size(1);
  Tensor noise = at::empty({batch.captured.size(0), width}, at::kFloat);
  for (size_t s = 0; s < keys.size(); ++s) {
    noise.narrow(0, starts[s], starts[s + 1] - starts[s])
        .uniform_(-amplitude, amplitude, at::detail::createCPUGenerator(keys[s]));
  }
  batch.captured = batch.captured + noise.to(batch.captured.options());
}

}  // namespace aerie
