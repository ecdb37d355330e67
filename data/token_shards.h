// Tokenised documents on disk, memory-mapped: a directory of safetensors shards and an index.json.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/media.h"
#include "data/safetensors.h"

namespace aerie {

/// A document inside a mapped shard; valid as long as its TokenShards.
struct Document {
  std::span<const int32_t> ids;
  std::span<const uint8_t> assistant;  // 1: written by the assistant
  std::string_view name;               // the row's id, else file:line
  std::string_view media;              // what some ids stand for: parse_media_text
  std::string_view domain;             // what kind of text it is; empty: not said

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

/// Reads what ShardWriter wrote. Opening checks every shard's header and the index against it.
class TokenShards {
 public:
  /// Throws Error naming the directory and what is wrong with it.
  explicit TokenShards(const std::filesystem::path& directory);

  int64_t size() const { return static_cast<int64_t>(place_.size()); }
  Document operator[](int64_t document) const;
  int64_t tokens() const { return tokens_; }
  int64_t supervised() const { return supervised_; }
  /// The documents [begin, end) of each file, in order.
  std::vector<std::array<int64_t, 2>> files() const;
  /// Tells the kernel that a file's documents are not needed resident any more.
  void drop(size_t file) const;
  bool has_domains() const { return !domains_.empty(); }
  /// What the documents were made from; see ShardWriter::finish.
  const std::string& key() const { return key_; }

 private:
  struct Shard {
    SafetensorsFile file;
    std::span<const int32_t> ids;
    std::span<const uint8_t> assistant;
    std::span<const char> names, media;
    std::span<const int64_t> start, name_start;  // [documents + 1]
    std::span<const int64_t> media_start;        // [documents + 1]; empty: a shard without media
    std::span<const int32_t> domain;             // [documents] into domains_; empty: none has one
  };
  static Shard open_shard(const std::filesystem::path& file);
  void check_domains() const;

  std::vector<Shard> shards_;
  std::vector<std::array<int32_t, 2>> place_;  // document -> shard, index in it
  int64_t tokens_ = 0, supervised_ = 0;
  std::string key_;
  std::vector<std::string> domains_;
};

/// Collects documents and writes a shard whenever one is full.
class ShardWriter {
 public:
  explicit ShardWriter(const std::filesystem::path& directory,
                       int64_t shard_tokens = int64_t{1} << 22);
  void add(std::span<const int32_t> ids, std::span<const uint8_t> assistant, std::string_view name,
           std::span<const MediaSpan> media = {}, std::string_view domain = {});
  /// Writes the last shard and the index with `key`. Throws Error if there are no documents.
  void finish(const std::string& key);

 private:
  void flush();
  int32_t domain_number(std::string_view domain);

  std::filesystem::path directory_;
  int64_t shard_tokens_;
  std::vector<int32_t> domain_;
  std::vector<std::string> domains_;  // names, by number; none as long as no document has one
  std::vector<int32_t> ids_;
  std::vector<uint8_t> assistant_;
  std::vector<int64_t> start_{0}, name_start_{0}, media_start_{0};
  std::string names_, media_;
  int64_t shards_ = 0, documents_ = 0, tokens_ = 0, supervised_ = 0;
};

/// Where a document is cut to have at most `limit` tokens: at the end of the last assistant turn
/// that fits, or, if not even the first one does, at `limit` inside it. The whole size if it fits.
int64_t truncated_size(std::span<const uint8_t> assistant, int64_t limit);

}  // namespace aerie
