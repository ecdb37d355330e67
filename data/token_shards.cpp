#include "data/token_shards.h"

#include <ATen/ops/from_blob.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

constexpr int kShardFormat = 1;

template <typename T>
std::span<const T> values(const SafetensorsFile& file, const char* name) {
  const at::Tensor tensor = file.tensor(name);
  AERIE_CHECK(tensor.scalar_type() == c10::CppTypeToScalarType<T>::value && tensor.dim() == 1,
              "{}: tensor '{}' is not a list of {}: prepare the data again", file.path().string(),
              name, c10::toString(c10::CppTypeToScalarType<T>::value));
  // The map keeps these bytes where they are: every tensor is aligned in files that we write.
  return {tensor.const_data_ptr<T>(), static_cast<size_t>(tensor.numel())};
}

template <typename T>
at::Tensor as_tensor(std::vector<T>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())},
                       c10::CppTypeToScalarType<T>::value);
}

/// Starts must begin at 0, never fall, and end at the size of what they cut.
void check_starts(std::span<const int64_t> starts, size_t size, const SafetensorsFile& file,
                  const char* name) {
  const bool sound = !starts.empty() && starts.front() == 0 &&
                     std::is_sorted(starts.begin(), starts.end()) &&
                     starts.back() == static_cast<int64_t>(size);
  AERIE_CHECK(sound, "{}: '{}' does not cut the shard into documents: prepare the data again",
              file.path().string(), name);
}

std::span<const char> characters(const SafetensorsFile& file, const char* name) {
  const std::span<const uint8_t> bytes = values<uint8_t>(file, name);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

nlohmann::json read_index(const fs::path& file) {
  AERIE_CHECK(fs::exists(file), "{} does not exist: run aerie prepare", file.string());
  const nlohmann::json index = nlohmann::json::parse(read_file(file), nullptr, false);
  AERIE_CHECK(index.is_object() && index.value("format", 0) == kShardFormat,
              "{}: not an index of format {}: prepare the data again", file.string(), kShardFormat);
  return index;
}

fs::path shard_name(int64_t number) { return fmt::format("shard-{:05}.safetensors", number); }

}  // namespace

TokenShards::Shard TokenShards::open_shard(const fs::path& path) {
  SafetensorsFile file(path);
  Shard shard{file,
              values<int32_t>(file, "ids"),
              values<uint8_t>(file, "assistant"),
              characters(file, "names"),
              {},
              values<int64_t>(file, "start"),
              values<int64_t>(file, "name_start"),
              {},
              {}};
  if (file.contains("domain")) shard.domain = values<int32_t>(file, "domain");
  if (file.contains("media")) {
    shard.media = characters(file, "media");
    shard.media_start = values<int64_t>(file, "media_start");
    check_starts(shard.media_start, shard.media.size(), file, "media_start");
  }
  check_starts(shard.start, shard.ids.size(), file, "start");
  check_starts(shard.name_start, shard.names.size(), file, "name_start");
  AERIE_CHECK(
      shard.ids.size() == shard.assistant.size() && shard.start.size() == shard.name_start.size() &&
          (shard.domain.empty() || shard.domain.size() + 1 == shard.start.size()),
      "{}: ids, mask and names are of different documents: prepare the data again", path.string());
  return shard;
}

TokenShards::TokenShards(const fs::path& directory) {
  const fs::path file = directory / "index.json";
  const nlohmann::json index = read_index(file);
  const int64_t shards = index.value("shards", int64_t{0});
  for (int64_t i = 0; i < shards; ++i) {
    shards_.push_back(open_shard(directory / shard_name(i)));
    for (size_t d = 0; d + 1 < shards_.back().start.size(); ++d)
      place_.push_back({static_cast<int32_t>(i), static_cast<int32_t>(d)});
    tokens_ += static_cast<int64_t>(shards_.back().ids.size());
  }
  supervised_ = index.value("supervised", int64_t{0});
  key_ = index.value("key", "");
  domains_ = index.value("domains", std::vector<std::string>{});
  check_domains();
  AERIE_CHECK(size() > 0 && size() == index.value("documents", int64_t{0}) &&
                  tokens_ == index.value("tokens", int64_t{0}),
              "{}: the shards hold {} documents of {} tokens, which is not what the index says: "
              "prepare the data again",
              file.string(), size(), tokens_);
}

void TokenShards::check_domains() const {
  for (const Shard& shard : shards_) {
    for (const int32_t domain : shard.domain) {
      AERIE_CHECK(0 <= domain && domain < static_cast<int32_t>(domains_.size()),
                  "{}: a document's domain is not in index.json: prepare the data again",
                  shard.file.path().string());
    }
  }
}

Document TokenShards::operator[](int64_t document) const {
  const auto [number, index] = place_.at(static_cast<size_t>(document));
  const Shard& shard = shards_[static_cast<size_t>(number)];
  const auto i = static_cast<size_t>(index);
  const auto begin = static_cast<size_t>(shard.start[i]);
  const size_t size = static_cast<size_t>(shard.start[i + 1]) - begin;
  const auto text = [i](std::span<const char> all, std::span<const int64_t> starts) {
    if (starts.empty()) return std::string_view();
    return std::string_view(all.data(), all.size())
        .substr(static_cast<size_t>(starts[i]), static_cast<size_t>(starts[i + 1] - starts[i]));
  };
  return {shard.ids.subspan(begin, size), shard.assistant.subspan(begin, size),
          text(shard.names, shard.name_start), text(shard.media, shard.media_start),
          shard.domain.empty() ? std::string_view() : domains_[shard.domain[i]]};
}

std::vector<std::array<int64_t, 2>> TokenShards::files() const {
  std::vector<std::array<int64_t, 2>> ranges;
  int64_t begin = 0;
  for (const Shard& shard : shards_) {
    const auto documents = static_cast<int64_t>(shard.start.size()) - 1;
    ranges.push_back({begin, begin + documents});
    begin += documents;
  }
  return ranges;
}

void TokenShards::drop(size_t file) const {
  for (const std::string& name : shards_[file].file.names()) shards_[file].file.drop(name);
}

ShardWriter::ShardWriter(const fs::path& directory, int64_t shard_tokens)
    : directory_(directory), shard_tokens_(shard_tokens) {
  fs::create_directories(directory);
}

int32_t ShardWriter::domain_number(std::string_view domain) {
  if (domain.empty() && domains_.empty()) return 0;
  if (domains_.empty()) domains_.emplace_back();  // number 0: none, as those before had
  const auto found = std::find(domains_.begin(), domains_.end(), domain);
  if (found == domains_.end()) domains_.emplace_back(domain);
  return static_cast<int32_t>(std::find(domains_.begin(), domains_.end(), domain) -
                              domains_.begin());
}

void ShardWriter::add(std::span<const int32_t> ids, std::span<const uint8_t> assistant,
                      std::string_view name, std::span<const MediaSpan> media,
                      std::string_view domain) {
  AERIE_CHECK(ids.size() == assistant.size(), "document {}: {} ids and {} mask entries", name,
              ids.size(), assistant.size());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  assistant_.insert(assistant_.end(), assistant.begin(), assistant.end());
  names_ += name;
  media_ += media_text(media);
  domain_.push_back(domain_number(domain));
  start_.push_back(static_cast<int64_t>(ids_.size()));
  name_start_.push_back(static_cast<int64_t>(names_.size()));
  media_start_.push_back(static_cast<int64_t>(media_.size()));
  supervised_ += std::count(assistant.begin(), assistant.end(), uint8_t{1});
  if (static_cast<int64_t>(ids_.size()) >= shard_tokens_) flush();
}

void ShardWriter::flush() {
  documents_ += static_cast<int64_t>(start_.size()) - 1;
  tokens_ += static_cast<int64_t>(ids_.size());
  std::vector<uint8_t> names(names_.begin(), names_.end()), media(media_.begin(), media_.end());
  // Widest first: every tensor is then aligned.
  std::vector<std::pair<std::string, at::Tensor>> tensors{{"start", as_tensor(start_)},
                                                          {"name_start", as_tensor(name_start_)}};
  if (!media.empty()) tensors.emplace_back("media_start", as_tensor(media_start_));
  tensors.emplace_back("ids", as_tensor(ids_));
  if (!domains_.empty()) tensors.emplace_back("domain", as_tensor(domain_));
  tensors.emplace_back("assistant", as_tensor(assistant_));
  tensors.emplace_back("names", as_tensor(names));
  if (!media.empty()) tensors.emplace_back("media", as_tensor(media));
  write_safetensors(directory_ / shard_name(shards_++), tensors);
  domain_.clear();
  ids_.clear();
  assistant_.clear();
  names_.clear();
  media_.clear();
  start_.assign(1, 0);
  name_start_.assign(1, 0);
  media_start_.assign(1, 0);
}

void ShardWriter::finish(const std::string& key) {
  if (start_.size() > 1) flush();
  AERIE_CHECK(documents_ > 0, "{}: no document was left to write: the input has no usable row",
              directory_.string());
  nlohmann::json index = {{"format", kShardFormat}, {"key", key},
                          {"shards", shards_},      {"documents", documents_},
                          {"tokens", tokens_},      {"supervised", supervised_}};
  if (!domains_.empty()) index["domains"] = domains_;
  write_file_atomic(directory_ / "index.json", index.dump(2) + "\n");
}

int64_t truncated_size(std::span<const uint8_t> assistant, int64_t limit) {
  const auto size = static_cast<int64_t>(assistant.size());
  if (size <= limit) return size;
  int64_t end = limit;
  // A turn ends at `end` if the token before it is the assistant's and the one at it is not.
  const auto turn_ends = [&](int64_t at) {
    return assistant[static_cast<size_t>(at - 1)] && !assistant[static_cast<size_t>(at)];
  };
  while (end > 0 && !turn_ends(end)) --end;
  return end > 0 ? end : limit;
}

}  // namespace aerie
