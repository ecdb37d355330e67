// What training draws at random, as a function of (seed, epoch, document, place in it): neither
// packing, nor the number of ranks, nor a resumption changes a draw.
#pragma once
#include <span>

#include "trainer/hidden_states.h"

namespace aerie {

/// A key for each of some documents, by their names in the data.
std::vector<uint64_t> document_keys(std::span<const std::string> documents, int64_t epoch,
                                    uint64_t seed);
/// A key for each of the batch's documents. [S]
std::vector<uint64_t> document_keys(const TrainBatch& batch, uint64_t seed);

/// Adds noise, uniform in [-amplitude, amplitude], to the captured states: a draft that has seen
/// some does not rely on states that it will not have at greater depths (EAGLE, arXiv 2401.15077).
void add_feature_noise(TrainBatch& batch, double amplitude, std::span<const uint64_t> keys);

}  // namespace aerie
