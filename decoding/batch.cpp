#include "decoding/batch.h"

#include <algorithm>
#include <numeric>

#include "common/error.h"
#include "decoding/page_table.h"

namespace aerie {

namespace {

bool is_chain(const Chunk& chunk) {
  for (int64_t row = 0; row < static_cast<int64_t>(chunk.parents.size()); ++row) {
    if (chunk.parents[row] != row - 1) return false;
  }
  return true;
}

// tree [S,M,M]: row attends itself and its ancestors.
Tensor tree_mask(std::span<const Chunk> chunks, int64_t max_rows) {
  const int64_t count = static_cast<int64_t>(chunks.size());
  Tensor mask = at::zeros({count, max_rows, max_rows}, at::kBool);
  bool* data = mask.mutable_data_ptr<bool>();
  for (int64_t s = 0; s < count; ++s) {
    const Chunk& chunk = chunks[s];
    for (int64_t row = 0; row < chunk.rows(); ++row) {
      bool* line = data + (s * max_rows + row) * max_rows;
      const int64_t parent = chunk.parents.empty() ? row - 1 : chunk.parents[row];
      AERIE_CHECK(parent < row, "row {} of a tree has parent {}: parents come first", row, parent);
      if (parent >= 0) std::copy_n(data + (s * max_rows + parent) * max_rows, row, line);
      line[row] = true;
    }
  }
  return mask;
}

RaggedLayout build_layout(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                          const std::vector<int64_t>& row_start) {
  RaggedLayout layout;
  std::vector<int32_t> kv_len;
  std::vector<int64_t> slots;
  slots.reserve(row_start.back());
  for (size_t s = 0; s < chunks.size(); ++s) {
    const Sequence& sequence = *sequences[s];
    const int64_t rows = chunks[s].rows();
    kv_len.push_back(static_cast<int32_t>(sequence.committed + rows));
    for (int64_t row = 0; row < rows; ++row) {
      slots.push_back(PageTable::slot(sequence, sequence.committed + row));
    }
    layout.max_q = std::max(layout.max_q, rows);
    layout.max_kv = std::max<int64_t>(layout.max_kv, kv_len.back());
  }
  layout.q_start = to_tensor(row_start, at::kInt);
  layout.kv_len = to_tensor(kv_len, at::kInt);
  layout.slots = to_tensor(slots, at::kLong);
  layout.pages = page_matrix(sequences, kv_len);
  if (!std::all_of(chunks.begin(), chunks.end(), is_chain)) {
    layout.tree = tree_mask(chunks, layout.max_q);
  }
  return layout;
}

void move_to(ForwardInput& input, at::Device device) {
  if (device.is_cpu()) return;
  for (Tensor* tensor : {&input.tokens, &input.positions, &input.embed_rows, &input.logit_rows,
                         &input.layout.q_start, &input.layout.kv_len, &input.layout.pages,
                         &input.layout.slots, &input.layout.tree}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
}

}  // namespace

Chunk known_chunk(const Sequence& sequence, int64_t from, int64_t count) {
  Chunk chunk;
  const auto first = sequence.tokens.begin() + from;
  chunk.tokens.assign(first, first + count);
  chunk.positions.resize(count);
  std::iota(chunk.positions.begin(), chunk.positions.end(), static_cast<int32_t>(from));
  if (from + count == sequence.known()) chunk.logit_rows = {static_cast<int32_t>(count - 1)};
  return chunk;
}

Tensor page_matrix(std::span<Sequence* const> sequences, std::span<const int32_t> kv_lens) {
  int64_t width = 1;
  for (const int32_t length : kv_lens) width = std::max(width, PageTable::pages_for(length));
  Tensor pages = at::zeros({static_cast<int64_t>(sequences.size()), width}, at::kInt);
  int32_t* line = pages.mutable_data_ptr<int32_t>();
  for (size_t s = 0; s < sequences.size(); ++s, line += width) {
    std::copy_n(sequences[s]->pages.begin(), PageTable::pages_for(kv_lens[s]), line);
  }
  return pages;
}

Tensor page_lists(std::span<const std::vector<int32_t>> lists) {
  size_t width = 1;
  for (const std::vector<int32_t>& list : lists) width = std::max(width, list.size());
  Tensor pages =
      at::zeros({static_cast<int64_t>(lists.size()), static_cast<int64_t>(width)}, at::kInt);
  int32_t* line = pages.mutable_data_ptr<int32_t>();
  for (const std::vector<int32_t>& list : lists) {
    std::copy(list.begin(), list.end(), line);
    line += width;
  }
  return pages;
}

Batch build_batch(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                  at::Device device, int64_t axes) {
  Batch batch;
  std::vector<int64_t> tokens, logit_rows;
  RopePositions positions(axes);
  MediaRows media;
  batch.row_start = {0};
  batch.logit_start = {0};
  for (size_t s = 0; s < chunks.size(); ++s) {
    const Chunk& chunk = chunks[s];
    if (chunk.prompt) {
      media.add(*sequences[s], chunk.positions.front(), chunk.rows(), batch.row_start.back());
    }
    for (const int32_t position : chunk.positions) positions.add(*sequences[s], position);
    for (const int32_t row : chunk.logit_rows) logit_rows.push_back(batch.row_start.back() + row);
    tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    batch.row_start.push_back(static_cast<int64_t>(tokens.size()));
    batch.logit_start.push_back(static_cast<int64_t>(logit_rows.size()));
  }
  batch.input.tokens = to_tensor(tokens, at::kLong);
  batch.input.positions = positions.tensor();
  if (!media.empty()) {
    batch.input.embeds = media.embeds();
    batch.input.deepstack = media.deepstack();
    batch.input.embed_rows = media.rows();
  }
  if (!logit_rows.empty()) batch.input.logit_rows = to_tensor(logit_rows, at::kLong);
  batch.input.layout = build_layout(sequences, chunks, batch.row_start);
  move_to(batch.input, device);
  return batch;
}

}  // namespace aerie
