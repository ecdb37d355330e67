// One finished shard of a hidden-state store, opened for reading.
#pragma once
#include <filesystem>
#include <vector>

#include "data/hidden_columns.h"
#include "data/hidden_manifest.h"
#include "data/hidden_rows.h"

namespace aerie {

class HiddenShardReader {
 public:
  /// Throws Error naming the file if it is missing, of another size than the manifest says,
  /// damaged, of another store, or of another format.
  HiddenShardReader(const std::filesystem::path& store, const ShardEntry& entry,
                    const StoreFacts& facts, const HiddenFormat& format);

  const std::vector<int64_t>& documents() const { return documents_; }  ///< [S]
  const std::vector<int64_t>& starts() const { return starts_; }        ///< [S+1] rows
  /// Copies rows [begin, begin + count) of a column to `out`. Throws Error naming the file where a
  /// checksum does not hold.
  void read(size_t column, int64_t begin, int64_t count, void* out) const;

 private:
  void open_columns(int64_t rows);
  std::vector<int64_t> read_list(const char* name) const;

  std::filesystem::path path_;
  std::vector<HiddenColumn> columns_;
  hdf5::Handle file_;
  std::vector<hdf5::Handle> types_, datasets_;
  std::vector<int64_t> documents_, starts_;
};

}  // namespace aerie
