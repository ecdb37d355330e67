// A store of hidden states, read by document. A directory:
//   manifest.json                  what it was made from, and its shards with sizes and checksums
//   shard-00000.h5 ...             rows of whole documents, one after the other
//   shard-00003.h5.{tmp,journal}   a shard that is being written, or was when its process died
// `documents` in a shard are the numbers of its documents in the prepared data, `doc_start` where
// their rows begin.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "data/hidden_manifest.h"
#include "data/hidden_rows.h"

namespace aerie {

class HiddenShardReader;

/// The first `rows` rows of a document. (A target is causal: they do not depend on later ones.)
struct DocumentRows {
  int64_t document = 0, rows = 0;
};

/// Whether a shard's whole content is compared with the manifest's checksum before any of its rows
/// is given out. Reads check the rows' own checksums in any case.
enum class VerifyShards { kNever, kOnce };

class HiddenStore {
 public:
  /// Opens what is there. Throws Error naming the file, and for a manifest of another run every
  /// field with both values.
  static HiddenStore open(const std::filesystem::path& directory, const StoreFacts& facts,
                          const HiddenFormat& format, VerifyShards verify = VerifyShards::kNever);
  /// The same to write more: an absent store is made; a shard whose file was removed is forgotten,
  /// so that its documents count as missing.
  static HiddenStore open_or_create(const std::filesystem::path& directory, const StoreFacts& facts,
                                    const HiddenFormat& format,
                                    VerifyShards verify = VerifyShards::kNever);

  HiddenStore(HiddenStore&&) noexcept;
  ~HiddenStore();

  /// Rows that are stored of a document; 0: none.
  int64_t rows(int64_t document) const;
  bool has(const DocumentRows& wanted) const { return rows(wanted.document) >= wanted.rows; }
  int64_t documents() const { return documents_; }
  int64_t total_rows() const { return total_rows_; }
  const std::vector<ShardEntry>& shards() const { return shards_; }

  /// The rows of all these documents, side by side. Memory beyond the result: a few open files with
  /// two chunks of every dataset. Throws Error naming the shard that is damaged.
  HiddenRows read(std::span<const DocumentRows> wanted);
  /// Takes up the shards that have come since.
  void refresh();

  const std::filesystem::path& directory() const { return directory_; }
  const StoreFacts& facts() const { return facts_; }
  const HiddenFormat& format() const { return format_; }

 private:
  struct Place {
    int32_t shard = -1;
    int64_t row = 0, rows = 0;
  };
  struct OpenShard {
    std::unique_ptr<HiddenShardReader> reader;
    int64_t last_use = 0;
  };
  HiddenStore(std::filesystem::path directory, StoreFacts facts, const HiddenFormat& format,
              VerifyShards verify);
  const HiddenShardReader& shard(int32_t number);

  std::filesystem::path directory_;
  StoreFacts facts_;
  HiddenFormat format_;
  VerifyShards verify_;
  std::vector<ShardEntry> shards_;
  std::vector<bool> verified_;  // by shard
  std::vector<Place> places_;   // by document
  std::map<int32_t, OpenShard> open_;
  int64_t uses_ = 0, documents_ = 0, total_rows_ = 0;
};

}  // namespace aerie
