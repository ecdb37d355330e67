#include "trainer/run_sources.h"

#include "common/error.h"
#include "trainer/online_source.h"
#include "trainer/store_facts.h"

namespace aerie {
namespace {

constexpr int64_t kWholeSplit = 1 << 30;

}  // namespace

std::filesystem::path nearest_existing(std::filesystem::path path) {
  path = std::filesystem::absolute(path);
  while (!std::filesystem::exists(path)) path = path.parent_path();
  return path;
}

bool runs_target(const RunConfig& config) {
  const bool decodes = !config.data.heldout.empty() && config.eval.prompts > 0;
  return config.hidden_states.mode != "offline" || decodes;
}

PackOptions pack_options(const RunConfig& config, Split split) {
  PackOptions packing;
  packing.budget = config.train.pack_tokens;
  packing.seed = config.train.seed;
  if (split == Split::kHeldout) {
    packing.shuffle = false;
    packing.window = kWholeSplit;
  }
  return packing;
}

std::filesystem::path store_directory(const RunConfig& config, Split split) {
  const std::filesystem::path& store = config.hidden_states.store;
  return split == Split::kTrain ? store : store / "heldout";
}

RunSource::RunSource(const RunConfig& config, Split split, const DraftConfig& draft,
                     const TargetModel& target, const TokenShards& shards, int64_t epochs,
                     const StepShare& share) {
  PackOptions packing = pack_options(config, split);
  packing.rank = share.rank;
  packing.ranks = share.ranks;
  packing.round = share.packs;
  const std::string& mode = config.hidden_states.mode;
  // A rank would need what the others have not published yet.
  AERIE_CHECK(mode != "hybrid" || share.ranks == 1,
              "hidden_states.mode is hybrid, which one process alone can do, and there are {}. Run "
              "aerie dump under the same launcher (each rank stores its part), then train with "
              "hidden_states.mode offline",
              share.ranks);
  if (mode == "online") {
    source_ = std::make_unique<OnlineSource>(target, draft.capture_layers, shards, packing, epochs,
                                             draft.use_input_embeds);
    return;
  }
  const StoreFacts facts = store_facts(config, draft, target.dtype(), shards.key());
  const HiddenFormat format = hidden_format(config, draft, target.dtype());
  const std::filesystem::path directory = store_directory(config, split);
  const VerifyShards verify =
      config.hidden_states.verify == "once" ? VerifyShards::kOnce : VerifyShards::kNever;
  std::optional<OnMiss> on_miss;
  if (mode == "hybrid") {
    store_ = std::make_unique<HiddenStore>(
        HiddenStore::open_or_create(directory, facts, format, verify));
    StoreWriterOptions options;
    options.shard_bytes = config.hidden_states.shard_bytes;
    options.planned_rows = missing_rows(*store_, trained_rows(shards, packing.budget));
    writer_ = std::make_unique<HiddenStoreWriter>(*store_, options);
    on_miss.emplace(OnMiss{target, draft.capture_layers, *writer_});
  } else {
    store_ = std::make_unique<HiddenStore>(HiddenStore::open(directory, facts, format, verify));
  }
  source_ = std::make_unique<StoredSource>(*store_, shards, packing, epochs, target.device(),
                                           std::move(on_miss));
}

int64_t rows_to_make(const RunConfig& config, const DraftConfig& draft, at::ScalarType dtype,
                     const TokenShards& shards) {
  const std::vector<DocumentRows> wanted = trained_rows(shards, config.train.pack_tokens);
  const std::filesystem::path directory = store_directory(config, Split::kTrain);
  const bool begun = std::filesystem::exists(directory / "manifest.json");
  if (config.hidden_states.mode != "hybrid" || !begun) return sum_rows(wanted);
  const HiddenStore store =
      HiddenStore::open(directory, store_facts(config, draft, dtype, shards.key()),
                        hidden_format(config, draft, dtype));
  return missing_rows(store, wanted);
}

std::string describe_store_size(const RunConfig& config, Split split, const DraftConfig& draft,
                                at::ScalarType dtype, const TokenShards& shards) {
  const std::filesystem::path directory = store_directory(config, split);
  const int64_t row = hidden_format(config, draft, dtype).row_bytes();
  const int64_t rows = sum_rows(trained_rows(shards, config.train.pack_tokens));
  int64_t stored = 0;
  if (std::filesystem::exists(directory / "manifest.json")) {
    for (const ShardEntry& shard : read_manifest(directory).shards) stored += shard.bytes;
  }
  const auto gigabytes = [](auto bytes) { return static_cast<double>(bytes) / 1e9; };
  return fmt::format(
      "hidden states of {} documents: {} rows of {} bytes, {:.3f} GB in {}; {:.3f} GB are there, "
      "{:.1f} GB are free",
      shards.size(), rows, row, gigabytes(rows * row), directory.string(), gigabytes(stored),
      gigabytes(std::filesystem::space(nearest_existing(directory)).available));
}

}  // namespace aerie
