// Where the trainer's batches come from. Online, a packed batch of tokens goes through the target;
// offline, the same batch is read from disk. The trainer cannot tell them apart.
#pragma once
#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

namespace aerie {

using at::Tensor;

/// Documents packed into N rows, with what the target says about each row.
struct TrainBatch {
  Tensor tokens;        ///< [N] i64
  Tensor positions;     ///< [N] i64, from 0 in every document; [3,N] where the target's axes differ
  Tensor q_start;       ///< [S+1] i32: rows of document s are [q_start[s], q_start[s+1])
  Tensor loss_mask;     ///< [N] bool: the row's token was produced by the assistant
  Tensor captured;      ///< [N,A*C] outputs of the captured layers, side by side
  Tensor last_hidden;   ///< [N,C] after the target's final norm: times its head = teacher logits
  int64_t max_len = 0;  ///< rows of the longest document
  std::vector<std::string> documents;  ///< [S] names in the data, for messages
  int64_t epoch = 0;
  std::vector<std::string> domains = {};  ///< [S] of the documents; empty: the data name none
  /// [N,C] what the target read: its tokens' embeddings, and the features of media in their rows.
  /// Undefined where the draft reads its tokens' alone.
  Tensor embeds = {};
};

class HiddenStateSource {
 public:
  virtual ~HiddenStateSource() = default;
  /// The next batch; nothing once every epoch has been read.
  virtual std::optional<TrainBatch> next() = 0;
  /// The place of the batch that next() will give, as a short string for checkpoints.
  virtual std::string cursor() const = 0;
  /// Continues at a place that cursor() named. Throws Error if it belongs to other data.
  virtual void seek(const std::string& cursor) = 0;
  /// Batches from the start to the end of all epochs, of all ranks together.
  virtual int64_t total_batches() const = 0;
};

}  // namespace aerie
