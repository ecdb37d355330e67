// One shard of a hidden-state store while it is being written:
//   shard-00000.h5.tmp      the HDF5 file, of use to nobody before it is closed
//   shard-00000.h5.journal  what is safely in it: "doc NUMBER ROWS" and "chunk OFFSET:BYTES ..."
// A process that is killed leaves both, and the journal is enough to read every whole chunk again.
#pragma once
#include <filesystem>
#include <span>
#include <vector>

#include "data/hidden_columns.h"
#include "data/hidden_manifest.h"
#include "data/hidden_rows.h"

namespace aerie {

/// Lines on disk, and a lock that tells a living writer from a dead one.
class HiddenJournal {
 public:
  /// Throws Error where another process writes it.
  explicit HiddenJournal(const std::filesystem::path& file);
  ~HiddenJournal();
  HiddenJournal(const HiddenJournal&) = delete;
  HiddenJournal& operator=(const HiddenJournal&) = delete;

  void write(const std::string& line);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_;
};

class HiddenShardWriter {
 public:
  /// Throws Error where `shard` or what a killed process left of it is there.
  HiddenShardWriter(const std::filesystem::path& shard, const StoreFacts& facts,
                    const HiddenFormat& format);

  ~HiddenShardWriter();

  /// Appends a document: `columns` as to_columns gives them. Equal calls give equal bytes. After an
  /// Error (a full disk) the shard can only be recovered, not continued.
  void append(int64_t document, const std::vector<at::Tensor>& columns);
  /// Closes, syncs, renames. The journal stays until forget_journal(), so that a shard that has not
  /// reached the manifest is not lost.
  ShardEntry seal();
  void forget_journal();

  int64_t rows() const { return written_ + buffered_; }

 private:
  using Bytes = std::vector<const uint8_t*>;  // of every column
  void write_chunk(const Bytes& columns, int64_t rows);
  void write_list(const char* name, const std::vector<int64_t>& values);
  [[noreturn]] void fail_write(const std::string& reason) const;

  std::filesystem::path shard_, temporary_;
  HiddenJournal journal_;
  HiddenFormat format_;
  std::vector<HiddenColumn> columns_;
  hdf5::Handle file_;
  std::vector<hdf5::Handle> types_, datasets_;
  std::vector<std::vector<uint8_t>> buffers_;  // rows of the chunk that is not full yet
  int64_t written_ = 0, buffered_ = 0;
  bool sound_ = true;  // false during a call, and for good once one has thrown
  std::vector<int64_t> documents_, starts_{0};
};

/// Names beside a shard.
std::filesystem::path temporary_of(const std::filesystem::path& shard);
std::filesystem::path journal_of(const std::filesystem::path& shard);

}  // namespace aerie
