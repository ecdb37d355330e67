#include "decoding/autoregressive.h"

#include "decoding/verify.h"

namespace aerie {

std::vector<Chunk> AutoregressiveDecoder::propose(std::span<Sequence* const> sequences,
                                                  RowBudget /*budget*/) {
  std::vector<Chunk> chunks;
  for (const Sequence* sequence : sequences) {
    chunks.push_back(known_chunk(*sequence, sequence->committed, 1));
  }
  return chunks;
}

std::vector<Verdict> AutoregressiveDecoder::accept(std::span<Sequence* const> sequences,
                                                   std::span<const Chunk> chunks,
                                                   const StepOutput& output) {
  const std::vector<int32_t> chosen = choose_all(sequences, chunks, output.forward.logits);
  std::vector<Verdict> verdicts;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const std::span<const int32_t> own(chosen.data() + output.batch.logit_start[s],
                                       chunks[s].logit_rows.size());
    verdicts.push_back(chunks[s].prompt ? keep_prompt(chunks[s], own) : verify(chunks[s], own));
    apply_stop(*sequences[s], verdicts.back());
    if (!chunks[s].prompt) ++sequences[s]->stats.forwards;
  }
  return verdicts;
}

}  // namespace aerie
