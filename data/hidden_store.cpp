#include "data/hidden_store.h"

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "data/hdf5.h"
#include "data/hidden_columns.h"
#include "data/hidden_shard_reader.h"

namespace aerie {
namespace {

constexpr size_t kOpenShards = 16;

}  // namespace

HiddenStore::HiddenStore(fs::path directory, StoreFacts facts, const HiddenFormat& format,
                         VerifyShards verify)
    : directory_(std::move(directory)), facts_(std::move(facts)), format_(format), verify_(verify) {
  hdf5::start_library();
  refresh();
}

HiddenStore HiddenStore::open(const fs::path& directory, const StoreFacts& facts,
                              const HiddenFormat& format, VerifyShards verify) {
  const HiddenManifest manifest = read_manifest(directory);
  check_facts((directory / "manifest.json").string(), manifest.facts, facts);
  return {directory, facts, format, verify};
}

HiddenStore HiddenStore::open_or_create(const fs::path& directory, const StoreFacts& facts,
                                        const HiddenFormat& format, VerifyShards verify) {
  hdf5::start_library();
  check_compression(format.compression);  // before anything is computed
  open_manifest(directory, facts);
  for (const std::string& file : forget_missing_shards(directory)) {
    log_warning(fmt::format("{} was removed: its documents are missing from the store",
                            (directory / file).string()));
  }
  return {directory, facts, format, verify};
}

HiddenStore::HiddenStore(HiddenStore&&) noexcept = default;
HiddenStore::~HiddenStore() = default;

void HiddenStore::refresh() {
  const auto known = [this](const ShardEntry& entry) {
    return std::any_of(shards_.begin(), shards_.end(),
                       [&](const ShardEntry& shard) { return shard.file == entry.file; });
  };
  for (ShardEntry& entry : read_manifest(directory_).shards) {
    if (known(entry)) continue;
    const HiddenShardReader reader(directory_, entry, facts_, format_);
    const auto number = static_cast<int32_t>(shards_.size());
    for (size_t d = 0; d < reader.documents().size(); ++d) {
      const auto document = static_cast<size_t>(reader.documents()[d]);
      if (places_.size() <= document) places_.resize(document + 1);
      documents_ += places_[document].shard < 0;
      const int64_t begin = reader.starts()[d];
      places_[document] = {number, begin, reader.starts()[d + 1] - begin};
    }
    total_rows_ += entry.rows;
    shards_.push_back(std::move(entry));
    verified_.push_back(verify_ == VerifyShards::kNever);
  }
}

int64_t HiddenStore::rows(int64_t document) const {
  const auto index = static_cast<size_t>(document);
  return index < places_.size() ? places_[index].rows : 0;
}

const HiddenShardReader& HiddenStore::shard(int32_t number) {
  OpenShard& wanted = open_[number];
  wanted.last_use = ++uses_;
  if (!wanted.reader) {
    const auto index = static_cast<size_t>(number);
    const ShardEntry& entry = shards_[index];
    if (!verified_[index]) verify_shard(directory_, entry);
    verified_[index] = true;
    wanted.reader = std::make_unique<HiddenShardReader>(directory_, entry, facts_, format_);
  }
  if (open_.size() > kOpenShards) {
    open_.erase(std::min_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) {
      return a.second.last_use < b.second.last_use;
    }));
  }
  return *wanted.reader;
}

HiddenRows HiddenStore::read(std::span<const DocumentRows> wanted) {
  int64_t total = 0;
  for (const DocumentRows& document : wanted) {
    AERIE_CHECK(has(document), "{} holds {} rows of document {}, and {} are asked for",
                directory_.string(), rows(document.document), document.document, document.rows);
    total += document.rows;
  }
  const std::vector<at::Tensor> columns = empty_columns(total, format_);
  int64_t done = 0;
  for (const DocumentRows& document : wanted) {
    const Place& place = places_[static_cast<size_t>(document.document)];
    const HiddenShardReader& reader = shard(place.shard);
    for (size_t c = 0; c < columns.size(); ++c) {
      const at::Tensor out = columns[c].narrow(0, done, document.rows);
      reader.read(c, place.row, document.rows, out.mutable_data_ptr());
    }
    done += document.rows;
  }
  return from_columns(columns, format_);
}

}  // namespace aerie
