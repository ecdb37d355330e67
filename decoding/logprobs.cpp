#include "decoding/logprobs.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

// Which of the chunk's rows of logits the verdict's token number `i` was chosen from.
int64_t logit_index(const Chunk& chunk, const Verdict& verdict, size_t i) {
  const int32_t row = chunk.prompt ? chunk.logit_rows.back() : verdict.keep.at(i);
  const auto at = std::lower_bound(chunk.logit_rows.begin(), chunk.logit_rows.end(), row);
  AERIE_CHECK(at != chunk.logit_rows.end() && *at == row,
              "row {} of a chunk emitted a token without logits", row);
  return at - chunk.logit_rows.begin();
}

}  // namespace

PlaceLogprobs place_logprobs(std::span<const float> logits, int32_t chosen, int64_t count) {
  const double top = logits[argmax(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  const double log_sum = top + std::log(sum);
  const auto logprob = [&](int32_t id) { return static_cast<float>(logits[id] - log_sum); };
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  PlaceLogprobs place;
  place.chosen = {chosen, logprob(chosen), 1};
  std::vector<int32_t> best;  // a heap whose front is the least likely of those kept
  for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
    place.chosen.rank += likelier(id, chosen);
    if (static_cast<int64_t>(best.size()) < count) {
      best.push_back(id);
      std::push_heap(best.begin(), best.end(), likelier);
    } else if (count > 0 && likelier(id, best.front())) {
      std::pop_heap(best.begin(), best.end(), likelier);
      best.back() = id;
      std::push_heap(best.begin(), best.end(), likelier);
    }
  }
  std::sort_heap(best.begin(), best.end(), likelier);
  for (const int32_t id : best) {
    place.top.push_back({id, logprob(id), static_cast<int64_t>(place.top.size()) + 1});
  }
  return place;
}

void note_logprobs(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                   std::span<const Verdict> verdicts, const StepOutput& output) {
  Tensor rows;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const int64_t count = sequences[s]->request.sampling.logprobs;
    if (count < 0 || verdicts[s].emit.empty()) continue;
    if (!rows.defined()) rows = output.forward.logits.to(at::kCPU).contiguous();
    const size_t width = rows.size(1);
    for (size_t i = 0; i < verdicts[s].emit.size(); ++i) {
      const int64_t row = output.batch.logit_start[s] + logit_index(chunks[s], verdicts[s], i);
      const std::span<const float> logits(rows.const_data_ptr<float>() + row * width, width);
      sequences[s]->logprobs.push_back(place_logprobs(logits, verdicts[s].emit[i], count));
    }
  }
}

}  // namespace aerie
