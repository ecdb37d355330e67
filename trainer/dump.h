// Fills a store of hidden states: the target's forward pass over every document, once.
#pragma once
#include "data/hidden_store_writer.h"
#include "target_models/model.h"
#include "trainer/pack_sequence.h"

namespace aerie {

struct DumpReport {
  int64_t documents = 0, rows = 0;  ///< computed and stored now
  int64_t there = 0;                ///< documents that were in the store already
  double seconds = 0, target_seconds = 0;
  bool stopped = false;  ///< a signal asked to stop; the same call goes on
};

/// Computes what `writer` lacks of `packs` (of one epoch) and makes it readable. Whole packs are
/// computed again even where one document is missing: what is stored never depends on where an
/// earlier dump ended.
DumpReport dump(const TargetModel& target, const std::vector<int64_t>& capture_layers,
                PackSequence& packs, HiddenStoreWriter& writer, const std::string& label,
                int64_t total_rows);

}  // namespace aerie
