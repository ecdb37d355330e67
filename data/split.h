// One split of the data: rows in, token shards out.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/prepare.h"
#include "data/row_encoder.h"

namespace aerie {

struct SplitJob {
  std::string name;  // "train", "heldout": for messages
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path output;
  int64_t max_length = 0;
  double max_bad_rows = 0;
  bool keep_domains = false;  // what the rows say about their kind; for evaluation
};

/// Writes the shards of a split, or finds them up to date.
SplitReport prepare_split(const SplitJob& job, const RowEncoder& encoder);

}  // namespace aerie
