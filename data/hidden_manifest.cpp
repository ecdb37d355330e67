#include "data/hidden_manifest.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/directory_lock.h"
#include "common/error.h"
#include "common/files.h"
#include "data/json.h"

namespace aerie {
namespace {

constexpr int64_t kManifestFormat = 1;
constexpr const char* kName = "manifest.json";

void write_manifest(const fs::path& store, const HiddenManifest& manifest) {
  Json shards = Json::array();
  for (const ShardEntry& shard : manifest.shards) {
    shards.push_back({{"file", shard.file},
                      {"bytes", shard.bytes},
                      {"checksum", shard.checksum},
                      {"documents", shard.documents},
                      {"rows", shard.rows}});
  }
  const Json content{{"format", kManifestFormat}, {"facts", manifest.facts}, {"shards", shards}};
  write_file_atomic(store / kName, content.dump(2) + "\n");
}

HiddenManifest from_json(const Json& content) {
  HiddenManifest manifest;
  manifest.facts = content.at("facts").get<StoreFacts>();
  for (const Json& shard : content.at("shards")) {
    manifest.shards.push_back({shard.at("file"), shard.at("bytes"), shard.at("documents"),
                               shard.at("rows"), shard.at("checksum")});
  }
  return manifest;
}

}  // namespace

HiddenManifest read_manifest(const fs::path& store) {
  const fs::path file = store / kName;
  AERIE_CHECK(fs::is_regular_file(file),
              "{} is no hidden-state store: it has no {}; aerie dump makes one", store.string(),
              kName);
  try {
    const Json content = Json::parse(read_file(file));
    AERIE_CHECK(content.at("format") == kManifestFormat,
                "{}: format {} is not this program's ({}); use the version that wrote it, or dump "
                "again",
                file.string(), content.at("format").dump(), kManifestFormat);
    return from_json(content);
  } catch (const Json::exception& error) {
    fail("{} is damaged ({}); the shards beside it are of no use without it: dump again",
         file.string(), error.what());
  }
}

void open_manifest(const fs::path& store, const StoreFacts& facts) {
  fs::create_directories(store);
  const DirectoryLock lock(store);
  if (fs::exists(store / kName)) {
    check_facts((store / kName).string(), read_manifest(store).facts, facts);
  } else {
    write_manifest(store, {facts, {}});
  }
}

void add_shard(const fs::path& store, const ShardEntry& entry) {
  const DirectoryLock lock(store);
  HiddenManifest manifest = read_manifest(store);
  std::erase_if(manifest.shards, [&](const ShardEntry& shard) { return shard.file == entry.file; });
  manifest.shards.push_back(entry);
  std::sort(manifest.shards.begin(), manifest.shards.end(),
            [](const ShardEntry& a, const ShardEntry& b) { return a.file < b.file; });
  write_manifest(store, manifest);
}

std::vector<std::string> forget_missing_shards(const fs::path& store) {
  const DirectoryLock lock(store);
  HiddenManifest manifest = read_manifest(store);
  std::vector<std::string> missing;
  std::erase_if(manifest.shards, [&](const ShardEntry& shard) {
    const bool gone = !fs::exists(store / shard.file);
    if (gone) missing.push_back(shard.file);
    return gone;
  });
  if (!missing.empty()) write_manifest(store, manifest);
  return missing;
}

void check_facts(const std::string& origin, const StoreFacts& store, const StoreFacts& run) {
  const auto value = [](const StoreFacts& facts, const std::string& name) {
    const auto found = facts.find(name);
    return found == facts.end() ? std::string("(absent)") : found->second;
  };
  StoreFacts names = store;
  names.insert(run.begin(), run.end());
  std::string differences;
  for (const auto& [name, unused] : names) {
    const std::string stored = value(store, name), wanted = value(run, name);
    if (stored != wanted) {
      differences += fmt::format("\n  {}: the store has {}, this run {}", name, stored, wanted);
    }
  }
  AERIE_CHECK(differences.empty(),
              "{} was not made for this run:{}\nSet these back, or name another directory in "
              "hidden_states.store",
              origin, differences);
}

void check_shard_size(const fs::path& store, const ShardEntry& entry) {
  const fs::path shard = store / entry.file;
  AERIE_CHECK(fs::is_regular_file(shard),
              "{} is missing, and {} lists it: copy it again, or let aerie dump write it again",
              shard.string(), (store / kName).string());
  const auto bytes = static_cast<int64_t>(fs::file_size(shard));
  if (bytes != entry.bytes) {
    fail_damaged(shard, fmt::format("it has {} bytes, the manifest says {}", bytes, entry.bytes));
  }
}

void verify_shard(const fs::path& store, const ShardEntry& entry) {
  check_shard_size(store, entry);
  const std::string checksum = hash_file(store / entry.file);
  if (checksum != entry.checksum) {
    fail_damaged(store / entry.file,
                 fmt::format("its checksum is {}, the manifest says {}", checksum, entry.checksum));
  }
}

void fail_damaged(const fs::path& shard, const std::string& what) {
  fail("{} is damaged: {}. Copy it again, or remove it and run aerie dump, which writes it again",
       shard.string(), what);
}

std::string facts_text(const StoreFacts& facts) { return Json(facts).dump(); }

StoreFacts parse_facts(const std::string& text, const std::string& origin) {
  const Json parsed = Json::parse(text, nullptr, false);
  AERIE_CHECK(parsed.is_object(), "{}: its description is damaged", origin);
  return parsed.get<StoreFacts>();
}

}  // namespace aerie
