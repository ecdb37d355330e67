// Hidden states out of a store on disk, read one batch ahead by a thread.
#pragma once
#include "common/worker.h"
#include "data/hidden_store.h"
#include "data/hidden_store_writer.h"
#include "target_models/model.h"
#include "trainer/hidden_states.h"
#include "trainer/pack_sequence.h"

namespace aerie {

/// What becomes of a document that the store lacks: the target makes its states, which are stored.
struct OnMiss {
  const TargetModel& target;
  std::vector<int64_t> capture_layers;
  HiddenStoreWriter& writer;
};

/// Gives the batches that OnlineSource gives, bit for bit, where the target's rows do not depend on
/// what shares their forward pass (true on the CPU).
class StoredSource : public HiddenStateSource {
 public:
  /// References outlive the source. `epochs` 0: endless. Without `on_miss` every document must be
  /// in the store: Error names the first that is not.
  StoredSource(HiddenStore& store, const TokenShards& shards, const PackOptions& packing,
               int64_t epochs, at::Device device, std::optional<OnMiss> on_miss);

  std::optional<TrainBatch> next() override;
  std::string cursor() const override;
  void seek(const std::string& cursor) override;
  int64_t total_batches() const override { return packs_.total(); }

 private:
  /// A pack that next() will give, and its rows, if all of them are in the store.
  struct Ahead {
    std::string cursor;
    std::optional<Pack> pack;
    PackedTokens tokens;
    std::vector<DocumentRows> documents;
    std::optional<HiddenRows> rows;  // the worker's while it reads
    bool stored = false;
  };
  void look_ahead();
  void catch_up(const std::string& cursor);
  bool readable(const std::vector<DocumentRows>& documents);
  TrainBatch from_store(const Ahead& ahead) const;
  TrainBatch from_target(const Ahead& ahead);

  HiddenStore& store_;
  PackSequence packs_;
  const std::string begin_;  ///< cursor of the first batch
  const int64_t longest_;    ///< rows of a document at most
  at::Device device_;
  std::optional<OnMiss> on_miss_;
  std::optional<Ahead> ahead_;
  Worker reader_;
};

/// The documents of a pack, with their rows in it.
std::vector<DocumentRows> document_rows(const Pack& pack, const PackedTokens& packed);
/// The rows of every document of `shards` that packs of `pack_tokens` train on.
std::vector<DocumentRows> trained_rows(const TokenShards& shards, int64_t pack_tokens);
int64_t sum_rows(const std::vector<DocumentRows>& documents);
/// Rows of those of `wanted` that the store lacks.
int64_t missing_rows(const HiddenStore& store, const std::vector<DocumentRows>& wanted);
/// Throws Error unless the store holds all of `wanted`; `shards` gives the names.
void check_complete(const HiddenStore& store, const std::vector<DocumentRows>& wanted,
                    const TokenShards& shards);
/// A batch's rows as a store takes them.
HiddenRows to_hidden_rows(const TrainBatch& batch);

}  // namespace aerie
