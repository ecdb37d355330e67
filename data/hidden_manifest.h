// manifest.json of a hidden-state store: what it was made from, and its shards.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aerie {

/// What must agree between a store and the run that reads it: name -> value, readable in messages.
/// The caller says what that is (target, tokenizer, data, layers ...); the store only compares.
using StoreFacts = std::map<std::string, std::string>;

struct ShardEntry {
  std::string file;
  int64_t bytes = 0, documents = 0, rows = 0;
  std::string checksum;  ///< hash_file of the whole file
};

struct HiddenManifest {
  StoreFacts facts;
  std::vector<ShardEntry> shards;  ///< by file name
};

/// Throws Error naming the file if it is missing, damaged or of another format version.
HiddenManifest read_manifest(const std::filesystem::path& store);

/// Makes the directory and a manifest without shards; an existing one is compared instead.
void open_manifest(const std::filesystem::path& store, const StoreFacts& facts);

/// Adds a shard, or replaces the entry of the same file. Several processes may do so at a time.
void add_shard(const std::filesystem::path& store, const ShardEntry& entry);

/// Removes the entries whose files are not there. -> their names
std::vector<std::string> forget_missing_shards(const std::filesystem::path& store);

/// Throws Error listing every field that differs, with both values. `origin` names the file.
void check_facts(const std::string& origin, const StoreFacts& store, const StoreFacts& run);

/// Reads a whole shard. Throws Error naming it if it is missing or not what the manifest says.
void verify_shard(const std::filesystem::path& store, const ShardEntry& entry);
/// The quick part of that: it is there, and of the right size.
void check_shard_size(const std::filesystem::path& store, const ShardEntry& entry);
[[noreturn]] void fail_damaged(const std::filesystem::path& shard, const std::string& what);

/// facts as they stand in every shard, so that a shard cannot pass for another store's.
std::string facts_text(const StoreFacts& facts);
/// The reverse. Throws Error naming `origin` for text that is none.
StoreFacts parse_facts(const std::string& text, const std::string& origin);

}  // namespace aerie
