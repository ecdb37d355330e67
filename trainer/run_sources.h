// Where the batches of one split of a run come from, as `hidden_states` of its run file says.
#pragma once
#include <memory>

#include "configs/run_config.h"
#include "data/hidden_store_writer.h"
#include "draft_models/draft_config.h"
#include "target_models/model.h"
#include "trainer/hidden_states.h"
#include "trainer/step_share.h"
#include "trainer/stored_source.h"

namespace aerie {

enum class Split { kTrain, kHeldout };

/// Whether a run takes forward passes of its target: where it trains on stored states and decodes
/// no prompts, embedding and head are enough (load_target_head).
bool runs_target(const RunConfig& config);

/// How the documents of a split are packed. Held-out documents keep their order, so that every
/// evaluation sees the same packs.
PackOptions pack_options(const RunConfig& config, Split split);

/// Directory of a split's store: hidden_states.store, with the held-out documents' below it.
std::filesystem::path store_directory(const RunConfig& config, Split split);

/// The nearest directory above `path` that exists, or itself.
std::filesystem::path nearest_existing(std::filesystem::path path);

/// Rows of the training documents whose hidden states a run has to make: those that the store of a
/// hybrid run lacks; else those of one pass. Throws Error for a store of another run.
int64_t rows_to_make(const RunConfig& config, const DraftConfig& draft, at::ScalarType dtype,
                     const TokenShards& shards);

/// A source with all that it stands on.
class RunSource {
 public:
  /// References outlive the source. `epochs` 0: endless. `share`: the packs that are this rank's.
  /// Throws Error for a hybrid source on several ranks.
  RunSource(const RunConfig& config, Split split, const DraftConfig& draft,
            const TargetModel& target, const TokenShards& shards, int64_t epochs,
            const StepShare& share = {});

  HiddenStateSource& get() { return *source_; }

 private:
  std::unique_ptr<HiddenStore> store_;
  std::unique_ptr<HiddenStoreWriter> writer_;
  std::unique_ptr<HiddenStateSource> source_;
};

/// "hidden states of 12 documents: 3,400 rows of 4617 bytes, 0.02 GB in DIR; 0.00 GB of them are
/// there, 65.3 GB are free"
std::string describe_store_size(const RunConfig& config, Split split, const DraftConfig& draft,
                                at::ScalarType dtype, const TokenShards& shards);

}  // namespace aerie
