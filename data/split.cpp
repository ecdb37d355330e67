#include "data/split.h"

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/threads.h"
#include "data/text_files.h"
#include "data/token_shards.h"

namespace aerie {
namespace {

constexpr size_t kBatch = 512;       // rows in memory at a time
constexpr size_t kExamples = 5;      // bad rows that a message shows
constexpr int kPipelineVersion = 1;  // raise it when the same input gives other shards

struct Row {
  std::string text, where;
  fs::path directory;  // of its file: where relative paths of media start
  EncodedChat encoded;
  std::string id, reason, problem;  // reason: empty for a good row
  bool truncated = false;
};

/// Hash of everything that the shards depend on.
std::string key_of(const SplitJob& job, const ChatEncoder& encoder) {
  std::string parts =
      fmt::format("{} {} {}", kPipelineVersion, encoder.fingerprint(), job.max_length);
  for (const fs::path& input : job.inputs) {
    AERIE_CHECK(fs::is_regular_file(input), "data.{}: {} does not exist", job.name, input.string());
    const MappedFile bytes(input);
    const std::string_view content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    parts += fmt::format(" {} {}", input.filename().string(), hash_hex(content));
  }
  return hash_hex(parts);
}

/// Cuts a document to the limit, and off what follows its last supervised token: no loss needs it.
void cut(Row& row, int64_t limit) {
  EncodedChat& chat = row.encoded;
  auto size = static_cast<size_t>(truncated_size(chat.assistant, limit));
  row.truncated = size < chat.ids.size();
  while (size > 0 && !chat.assistant[size - 1]) --size;
  if (size == 0)
    throw RowError(row.truncated ? "nothing supervised after truncation" : "nothing supervised",
                   fmt::format("{} tokens", chat.ids.size()));
  chat.ids.resize(size);
  chat.assistant.resize(size);
  chat.media = media_before(std::move(chat.media), static_cast<int64_t>(size));
}

void encode_row(Row& row, const ChatEncoder& encoder, int64_t limit) {
  try {
    const Conversation conversation = parse_conversation(row.text, row.directory);
    row.id = conversation.id.empty() ? row.where : conversation.id;
    row.encoded = encoder.encode(conversation);
    cut(row, limit);
  } catch (const RowError& e) {
    row.reason = e.reason();
    row.problem = e.what();
  } catch (const Error& e) {
    row.reason = "cannot be tokenised";
    row.problem = e.what();
  }
}

/// Reads rows in order, encodes them in batches on all threads, writes them in order.
class SplitWriter {
 public:
  SplitWriter(const SplitJob& job, const ChatEncoder& encoder, const fs::path& directory)
      : job_(job),
        encoder_(encoder),
        shards_(directory),
        progress_("prepare " + job.name, 0, "rows") {}

  SplitReport run(const std::string& key) {
    for (const fs::path& input : job_.inputs) {
      for_each_row(input, [&](std::string_view text, int64_t line) {
        Row row;
        row.text = text;
        row.where = fmt::format("{}:{}", input.string(), line);
        row.directory = fs::absolute(input).parent_path();
        batch_.push_back(std::move(row));
        if (batch_.size() == kBatch) flush();
      });
    }
    flush();
    progress_.finish();
    check_bad_rows();
    shards_.finish(key);
    summarise_lengths();
    return report_;
  }

 private:
  void flush() {
    parallel_for(0, static_cast<int64_t>(batch_.size()), 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        encode_row(batch_[static_cast<size_t>(i)], encoder_, job_.max_length);
    });
    for (const Row& row : batch_) take(row);
    batch_.clear();
    progress_.update(report_.rows);
  }

  void take(const Row& row) {
    ++report_.rows;
    if (!row.reason.empty()) {
      ++report_.bad_rows[row.reason];
      if (examples_.size() < kExamples) examples_.push_back(row.where + ": " + row.problem);
      return;
    }
    shards_.add(row.encoded.ids, row.encoded.assistant, row.id, row.encoded.media);
    lengths_.push_back(static_cast<int64_t>(row.encoded.ids.size()));
    ++report_.documents;
    report_.tokens += lengths_.back();
    report_.supervised += std::count(row.encoded.assistant.begin(), row.encoded.assistant.end(), 1);
    report_.truncated += row.truncated;
  }

  void check_bad_rows() const {
    const int64_t bad = report_.rows - report_.documents;
    if (bad == 0) return;
    std::string summary =
        fmt::format("data.{}: {} of {} rows cannot be used", job_.name, bad, report_.rows);
    for (const auto& [reason, count] : report_.bad_rows)
      summary += fmt::format("\n  {} x {}", count, reason);
    for (const std::string& example : examples_) summary += "\n  " + example;
    const double allowed = job_.max_bad_rows * static_cast<double>(report_.rows);
    AERIE_CHECK(static_cast<double>(bad) <= allowed,
                "{}\nmend them, or raise data.max_bad_rows (now {})", summary, job_.max_bad_rows);
    log_warning(summary);
  }

  void summarise_lengths() {
    std::sort(lengths_.begin(), lengths_.end());
    const auto at = [&](double share) {
      return lengths_[static_cast<size_t>(share * static_cast<double>(lengths_.size() - 1))];
    };
    report_.lengths = {at(0.5), at(0.9), at(0.99), lengths_.back()};
  }

  const SplitJob& job_;
  const ChatEncoder& encoder_;
  ShardWriter shards_;
  Progress progress_;
  std::vector<Row> batch_;
  std::vector<std::string> examples_;
  std::vector<int64_t> lengths_;
  SplitReport report_;
};

std::string to_json(const SplitReport& r) {
  const Json json = {{"rows", r.rows},           {"documents", r.documents},
                     {"tokens", r.tokens},       {"supervised", r.supervised},
                     {"truncated", r.truncated}, {"bad_rows", r.bad_rows},
                     {"lengths", r.lengths}};
  return json.dump(2) + "\n";
}

/// The report of a split that is on disk already.
SplitReport read_report(const fs::path& file) {
  try {
    const Json json = Json::parse(read_file(file));
    SplitReport r{
        json.at("rows"),      json.at("documents"), json.at("tokens"),  json.at("supervised"),
        json.at("truncated"), json.at("bad_rows"),  json.at("lengths"), true};
    return r;
  } catch (const Json::exception& e) {
    fail("{}: {}; delete its directory and prepare the data again", file.string(), e.what());
  }
}

bool is_up_to_date(const fs::path& directory, const std::string& key) {
  if (!fs::exists(directory / "index.json") || !fs::exists(directory / "report.json")) return false;
  try {
    return TokenShards(directory).key() == key;
  } catch (const Error& e) {
    log_warning(fmt::format("{}; preparing the data again", e.what()));
    return false;
  }
}

}  // namespace

SplitReport prepare_split(const SplitJob& job, const ChatEncoder& encoder) {
  const std::string key = key_of(job, encoder);
  if (is_up_to_date(job.output, key)) return read_report(job.output / "report.json");
  SplitReport report;
  fs::create_directories(job.output.parent_path());
  write_directory_atomic(job.output, [&](const fs::path& directory) {
    report = SplitWriter(job, encoder, directory).run(key);
    write_file_atomic(directory / "report.json", to_json(report));
  });
  return report;
}

}  // namespace aerie
