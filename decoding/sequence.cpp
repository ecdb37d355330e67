#include "decoding/sequence.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <algorithm>

namespace aerie {

std::string to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "abort";
    case FinishReason::kRunning:
      break;
  }
  return "running";
}

int64_t Sequence::rope_position(int64_t index, int64_t axis) const {
  const Tensor& positions = request.encoded.positions;
  if (!positions.defined() || positions.dim() == 1) return index;
  const int64_t rows = positions.size(1);
  return index < rows ? positions.const_data_ptr<int64_t>()[axis * rows + index]
                      : index + rope_ahead;
}

void RopePositions::add(const Sequence& sequence, int64_t index) {
  for (size_t axis = 0; axis < axes_.size(); ++axis) {
    axes_[axis].push_back(sequence.rope_position(index, static_cast<int64_t>(axis)));
    differ_ = differ_ || axes_[axis].back() != axes_[0].back();
  }
}

Tensor RopePositions::tensor() const {
  std::vector<Tensor> rows;
  for (const auto& axis : axes_) {
    rows.push_back(at::tensor(axis, at::kLong));
    if (!differ_) return rows[0];
  }
  return at::stack(rows);
}

void MediaRows::add(const Sequence& sequence, int64_t first, int64_t count, int64_t row) {
  const EncodedSample& encoded = sequence.request.encoded;
  if (!encoded.embeds.defined()) return;
  const int64_t* all = encoded.embed_rows.const_data_ptr<int64_t>();
  const int64_t* end = all + encoded.embed_rows.numel();
  const int64_t* from = std::lower_bound(all, end, first);
  const int64_t* to = std::lower_bound(all, end, first + count);
  if (from == to) return;
  embeds_.push_back(encoded.embeds.narrow(0, from - all, to - from));
  if (encoded.deepstack.defined())
    deepstack_.push_back(encoded.deepstack.narrow(0, from - all, to - from));
  for (; from < to; ++from) rows_.push_back(row + *from - first);
}

Tensor MediaRows::embeds() const { return at::cat(embeds_); }
Tensor MediaRows::deepstack() const { return deepstack_.empty() ? Tensor() : at::cat(deepstack_); }
Tensor MediaRows::rows() const { return at::tensor(rows_, at::kLong); }

void encode_media(Sequence& sequence, const TargetModel& target) {
  Request& request = sequence.request;
  if (request.media.empty()) return;
  if (!request.encoded.positions.defined())
    request.encoded = target.encode(pack_document(request.prompt, request.media));
  const Tensor& positions = request.encoded.positions;
  sequence.rope_ahead = positions.max().item<int64_t>() + 1 - positions.size(-1);
}

}  // namespace aerie
