// aerie dump: a configuration becomes a store of hidden states.
#include "common/error.h"
#include "common/log.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "trainer/commands.h"
#include "trainer/dump.h"
#include "trainer/run_data.h"
#include "trainer/run_ranks.h"
#include "trainer/run_sources.h"
#include "trainer/store_facts.h"

namespace aerie {
namespace {

struct SplitPlace {
  Split split;
  const char* name;
  std::filesystem::path shards;
};

std::vector<SplitPlace> split_places(const RunConfig& config) {
  const PreparedData places(prepare_options(config).output);
  std::vector<SplitPlace> splits{{Split::kTrain, "train", places.train}};
  if (!config.data.heldout.empty()) splits.push_back({Split::kHeldout, "heldout", places.heldout});
  return splits;
}

/// The documents of this process: those of every `parts`-th pack.
std::vector<DocumentRows> part_of(const TokenShards& shards, const PackOptions& packing) {
  PackSequence packs(shards, packing, 1);
  std::vector<DocumentRows> documents;
  while (const std::optional<Pack> pack = packs.next()) {
    for (const int64_t document : pack->documents) {
      documents.push_back({document, truncated_size(shards[document].assistant, packing.budget)});
    }
  }
  return documents;
}

void log_end(const SplitPlace& place, const DumpReport& report, const HiddenStore& store,
             int64_t wanted) {
  log_info(fmt::format(
      "{}: {} documents, {} rows stored in {:.1f} s ({:.0f} tokens/s; the target's forward pass "
      "took {:.1f} % of the time); {} documents were there. {}: {} of {} documents",
      place.name, report.documents, report.rows, report.seconds,
      static_cast<double>(report.rows) / std::max(report.seconds, 1e-9),
      100 * report.target_seconds / std::max(report.seconds, 1e-9), report.there,
      store.directory().string(), store.documents(), wanted));
}

/// -> whether it came to its end
bool dump_split(const RunConfig& config, const DumpFlags& flags, const DraftConfig& draft,
                const TargetModel& target, const SplitPlace& place) {
  const TokenShards shards(place.shards);
  HiddenStore store =
      HiddenStore::open_or_create(store_directory(config, place.split),
                                  store_facts(config, draft, target.dtype(), shards.key()),
                                  hidden_format(config, draft, target.dtype()));
  PackOptions packing = pack_options(config, Split::kHeldout);  // in the documents' order
  packing.rank = flags.part;
  packing.ranks = flags.parts;
  const std::vector<DocumentRows> documents = part_of(shards, packing);
  const StoreWriterOptions options{config.hidden_states.shard_bytes, flags.part, flags.parts,
                                   missing_rows(store, documents)};
  HiddenStoreWriter writer(store, options);
  if (writer.recovered() > 0) {
    log_info(fmt::format("{}: {} documents of an interrupted dump recovered", place.name,
                         writer.recovered()));
  }
  PackSequence packs(shards, packing, 1);
  const DumpReport report = dump(target, draft.capture_layers, packs, writer,
                                 std::string("dump ") + place.name, sum_rows(documents));
  if (!report.stopped) log_end(place, report, store, shards.size());
  return !report.stopped;
}

void dump_part(const RunConfig& config, const DumpFlags& flags, Ranks& ranks,
               const RankPlace& place) {
  const ModelConfig model = read_model_config(config.target.path);
  DraftConfig draft = draft_config_for(model, config.draft.vocab_size, config.draft.layer_ids);
  draft.use_input_embeds = config.draft.use_input_embeds;
  const at::ScalarType dtype = parse_dtype(flags.dtype);
  prepare_in_turns(ranks, place, prepare_options(config));
  const std::vector<SplitPlace> splits = split_places(config);
  if (flags.estimate) {
    for (const SplitPlace& split : splits) {
      if (!ranks.first()) break;
      fmt::print("{}: {}\n", split.name,
                 describe_store_size(config, split.split, draft, dtype, TokenShards(split.shards)));
    }
    return;
  }
  const auto target = load_target(config.target.path, parse_device(flags.device), dtype);
  for (const SplitPlace& split : splits) {
    if (!dump_split(config, flags, draft, *target, split)) {
      return log_info("stopped; the same command goes on from here");
    }
  }
}

}  // namespace

void dump_command(const RunConfig& config, const DumpFlags& flags) {
  const RankPlace place = rank_place();
  AERIE_CHECK(place.ranks == 1 || flags.parts == 1,
              "--part {}/{} in a process of a launcher, which makes {} parts already: leave it out",
              flags.part + 1, flags.parts, place.ranks);
  DumpFlags mine = flags;
  if (place.ranks > 1) {
    mine.part = place.rank;
    mine.parts = place.ranks;
  }
  const std::unique_ptr<Ranks> ranks = join_ranks(config, place, flags.device);
  run_as_rank(*ranks, [&] { dump_part(config, mine, *ranks, place); });
}

}  // namespace aerie
