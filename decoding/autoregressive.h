// One token a forward: what every other way of decoding is measured against.
#pragma once
#include "decoding/decoder.h"

namespace aerie {

class AutoregressiveDecoder : public Decoder {
 public:
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) override;
  std::vector<Verdict> accept(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                              const StepOutput& output) override;
};

}  // namespace aerie
