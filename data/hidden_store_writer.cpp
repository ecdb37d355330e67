#include "data/hidden_store_writer.h"

#include <set>

#include "common/error.h"
#include "common/files.h"
#include "data/hidden_recovery.h"
#include "data/hidden_shard_writer.h"

namespace aerie {
namespace {

// Documents that wait for the disk: enough to keep it busy, few enough to bound memory.
constexpr size_t kWaiting = 8;

// Under these names a killed writer's files wait until they have been read.
fs::path found_file(const fs::path& shard) { return beside(shard, ".found"); }
fs::path found_journal(const fs::path& shard) { return beside(shard, ".found.journal"); }

void move_if_there(const fs::path& from, const fs::path& to) {
  if (fs::exists(from)) fs::rename(from, to);
}

constexpr std::string_view kPrefix = "shard-", kJournal = ".h5.journal",
                           kFoundJournal = ".h5.found.journal";

/// The number of the shard that a journal belongs to; nothing for other files.
std::optional<int64_t> journal_number(const fs::path& file) {
  const std::string name = file.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  if (!name.ends_with(kJournal) && !name.ends_with(kFoundJournal)) return std::nullopt;
  return std::atoll(name.c_str() + kPrefix.size());
}

/// Moves a killed writer's files out of the way of its successor.
void set_aside(const fs::path& shard) {
  const HiddenJournal lock(journal_of(shard));  // refuses where its writer lives
  if (fs::exists(found_journal(shard))) {
    // Its successor was killed too, while it wrote the same documents again: they are still found.
    fs::remove(shard);
    fs::remove(journal_of(shard));
    return;
  }
  move_if_there(temporary_of(shard), found_file(shard));
  move_if_there(shard, found_file(shard));  // finished, but the manifest had not heard of it
  fs::rename(journal_of(shard), found_journal(shard));
}

}  // namespace

HiddenStoreWriter::HiddenStoreWriter(HiddenStore& store, const StoreWriterOptions& options)
    : store_(store), options_(options), next_(options.part), worker_(kWaiting) {
  std::set<int64_t> left;
  for (const auto& entry : fs::directory_iterator(store_.directory())) {
    const std::optional<int64_t> number = journal_number(entry.path());
    if (number && *number % options_.parts == options_.part) left.insert(*number);
  }
  for (const int64_t number : left) {
    const auto& shards = store_.shards();
    const bool listed = std::any_of(shards.begin(), shards.end(), [&](const ShardEntry& entry) {
      return entry.file == shard_path(number).filename();
    });
    if (listed) {
      fs::remove(journal_of(shard_path(number)));  // killed just before it would have done so
    } else {
      set_aside(shard_path(number));
    }
  }
  for (const int64_t number : left) recover(shard_path(number));
}

HiddenStoreWriter::~HiddenStoreWriter() = default;

bool HiddenStoreWriter::has(const DocumentRows& wanted) const {
  const auto added = added_.find(wanted.document);
  return store_.has(wanted) || (added != added_.end() && added->second >= wanted.rows);
}

void HiddenStoreWriter::add(int64_t document, const HiddenRows& rows) {
  added_[document] = rows.size();
  worker_.submit([this, document, rows] {
    guarded([&] { append(document, to_columns(rows, store_.format())); });
  });
}

void HiddenStoreWriter::add_missing(const std::vector<DocumentRows>& documents,
                                    const HiddenRows& rows) {
  int64_t begin = 0;
  for (const DocumentRows& document : documents) {
    if (!has(document)) add(document.document, rows.slice(begin, document.rows));
    begin += document.rows;
  }
}

void HiddenStoreWriter::append(int64_t document, const std::vector<at::Tensor>& columns) {
  if (!shard_) open_shard();
  shard_->append(document, columns);
  added_rows_ += columns[kTokens].numel();
  if (shard_->rows() * store_.format().row_bytes() >= options_.shard_bytes) seal();
}

void HiddenStoreWriter::open_shard() {
  while (fs::exists(shard_path(next_))) next_ += options_.parts;
  shard_ = std::make_unique<HiddenShardWriter>(shard_path(next_), store_.facts(), store_.format());
}

void HiddenStoreWriter::seal() {
  add_shard(store_.directory(), shard_->seal());
  shard_->forget_journal();
  shard_.reset();
}

void HiddenStoreWriter::guarded(const std::function<void()>& work) {
  AERIE_CHECK(!failed_, "an earlier write to {} failed", store_.directory().string());
  try {
    work();
  } catch (const Error& error) {
    failed_ = true;
    fail("{}. {}", error.what(), full_disk_advice());
  }
}

void HiddenStoreWriter::publish() {
  worker_.submit([this] {
    guarded([this] {
      if (shard_) seal();
    });
  });
  worker_.wait();
  store_.refresh();
}

int64_t HiddenStoreWriter::most_lost_rows(int64_t longest) const {
  return store_.format().chunk_rows() + static_cast<int64_t>(kWaiting + 1) * longest;
}

void HiddenStoreWriter::recover(const fs::path& shard) {
  if (fs::exists(found_file(shard))) {
    const auto take = [this](int64_t document, const std::vector<at::Tensor>& columns) {
      if (has({document, columns[kTokens].numel()})) return;
      added_[document] = columns[kTokens].numel();
      guarded([&] { append(document, columns); });
      ++recovered_;
    };
    recover_documents(found_file(shard), found_journal(shard), store_.format(), take);
  }
  fs::remove(found_journal(shard));
  fs::remove(found_file(shard));
}

fs::path HiddenStoreWriter::shard_path(int64_t number) const {
  return store_.directory() / fmt::format("shard-{:05}.h5", number);
}

std::string HiddenStoreWriter::full_disk_advice() const {
  const int64_t wanted =
      std::max<int64_t>(0, options_.planned_rows - added_rows_) * store_.format().row_bytes();
  const auto free = static_cast<int64_t>(fs::space(store_.directory()).available);
  return fmt::format(
      "What was written before is intact, and the same command goes on after it. About {} bytes "
      "are still to be written, {} are free{}",
      wanted, free, wanted > free ? fmt::format(": {} are missing", wanted - free) : "");
}

}  // namespace aerie
