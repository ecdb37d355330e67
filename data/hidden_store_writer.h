// Adds documents to a hidden-state store.
#pragma once
#include <memory>
#include <unordered_map>

#include "common/worker.h"
#include "data/hidden_store.h"

namespace aerie {

class HiddenShardWriter;

struct StoreWriterOptions {
  int64_t shard_bytes = int64_t{2} << 30;  ///< a shard is closed once its rows take so much
  int part = 0, parts = 1;   ///< this process writes shards part, part + parts, part + 2 parts ...
  int64_t planned_rows = 0;  ///< rows that are to be added, for messages
};

/// Whatever happens to the process, finished shards stay as they are, and the unfinished one is
/// taken up by the next writer up to its last whole document. The same documents in the same order
/// give the same bytes, however often the process was killed in between.
class HiddenStoreWriter {
 public:
  /// Recovers what a killed writer of the same part left. Throws Error if a living one is at it.
  /// `store` outlives the writer.
  HiddenStoreWriter(HiddenStore& store, const StoreWriterOptions& options);
  /// Leaves the open shard to the next writer: only publish() closes it.
  ~HiddenStoreWriter();
  HiddenStoreWriter(const HiddenStoreWriter&) = delete;
  HiddenStoreWriter& operator=(const HiddenStoreWriter&) = delete;

  /// Whether so many rows of a document are in the store or on their way.
  bool has(const DocumentRows& wanted) const;
  /// Appends a document's rows; returns before they are on disk (a thread writes, at most a few
  /// calls behind). Throws Error where an earlier write failed: for a full disk it says how many
  /// bytes are missing.
  void add(int64_t document, const HiddenRows& rows);
  /// add() for each of the documents that the store lacks; `rows` are those of all, one after the
  /// other.
  void add_missing(const std::vector<DocumentRows>& documents, const HiddenRows& rows);
  /// Closes the open shard and makes everything that was added readable through the store.
  void publish();
  const HiddenFormat& format() const { return store_.format(); }
  /// How many rows that add() has taken may die with this process, where no document has more than
  /// `longest`: a chunk that is not full, and what waits for the thread.
  int64_t most_lost_rows(int64_t longest) const;
  /// Documents that were taken over from a killed writer.
  int64_t recovered() const { return recovered_; }

 private:
  void append(int64_t document, const std::vector<at::Tensor>& columns);
  void open_shard();
  void seal();
  /// Calls `work`, and explains its Error.
  void guarded(const std::function<void()>& work);
  void recover(const std::filesystem::path& shard);
  std::filesystem::path shard_path(int64_t number) const;
  std::string full_disk_advice() const;

  HiddenStore& store_;
  StoreWriterOptions options_;
  int64_t next_;  // number of the next shard, if it is free
  int64_t recovered_ = 0, added_rows_ = 0;
  bool failed_ = false;
  std::unordered_map<int64_t, int64_t> added_;  // document -> rows
  std::unique_ptr<HiddenShardWriter> shard_;    // the worker's while it works
  Worker worker_;
};

}  // namespace aerie
