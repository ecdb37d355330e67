#include "data/split.h"

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/threads.h"
#include "common/worker.h"
#include "data/prepare_report.h"
#include "data/text_files.h"
#include "data/token_shards.h"

namespace aerie {
namespace {

// Three batches are in memory at a time; large enough that threads seldom wait for the last row.
constexpr size_t kBatchRows = 2048, kBatchBytes = size_t{8} << 20;
constexpr size_t kExamples = 5;  // bad rows that a message shows, besides the first of each reason
constexpr int64_t kHistogramSteps = 32;
constexpr int kPipelineVersion = 1;  // raise it when the same input gives other shards

struct Row {
  std::string text, where;
  fs::path directory;  // of its file: where relative paths of media start
  EncodedChat encoded;
  std::string id, domain, reason, problem;  // reason: empty for a good row
  bool truncated = false;
};

/// Hash of everything that the shards depend on.
std::string key_of(const SplitJob& job, const RowEncoder& encoder) {
  std::string parts =
      fmt::format("{} {} {}", kPipelineVersion, encoder.fingerprint(), job.max_length);
  if (job.keep_domains) parts += " domains";
  for (const fs::path& input : job.inputs) {
    AERIE_CHECK(fs::is_regular_file(input), "data.{}: {} does not exist", job.name, input.string());
    parts += fmt::format(" {} {}", input.filename().string(), hash_file(input));
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

void encode_row(Row& row, const RowEncoder& encoder, int64_t limit) {
  try {
    Conversation conversation = parse_conversation(row.text, row.directory);
    row.id = conversation.id.empty() ? row.where : conversation.id;
    row.domain = conversation.domain;
    row.encoded = encoder.encode(std::move(conversation));
    cut(row, limit);
  } catch (const RowError& e) {
    row.reason = e.reason();
    row.problem = e.what();
  } catch (const Error& e) {
    row.reason = "cannot be tokenised";
    row.problem = e.what();
  }
}

/// Reads rows in order, encodes them in batches on all threads, writes them in order. While one
/// batch is encoded, a thread of its own writes the one before and reads the one behind.
class SplitWriter {
 public:
  SplitWriter(const SplitJob& job, const RowEncoder& encoder, const fs::path& directory)
      : job_(job),
        encoder_(encoder),
        shards_(directory),
        progress_("prepare " + job.name, kilobytes(size_of(job.inputs)), "KB") {}

  SplitReport run(const std::string& key) {
    std::vector<Row> written, current = read_batch(), next;
    Worker beside;
    while (!current.empty()) {
      beside.submit([&] {
        take(written);
        next = read_batch();
      });
      encode(current);
      beside.wait();
      progress_.update(kilobytes(read_ + position()), fmt::format("{} rows", report_.rows));
      written = std::move(current);
      current = std::exchange(next, {});
    }
    take(written);
    progress_.finish();
    check_bad_rows();
    shards_.finish(key);
    summarise_lengths();
    return report_;
  }

 private:
  static int64_t kilobytes(int64_t bytes) { return bytes / 1'000; }
  static int64_t size_of(const std::vector<fs::path>& files) {
    int64_t size = 0;
    for (const fs::path& file : files) size += static_cast<int64_t>(fs::file_size(file));
    return size;
  }
  int64_t position() const { return reader_ ? reader_->position() : 0; }

  /// The next row of the inputs; nothing at the end of the last.
  std::optional<TextRow> next_row() {
    for (;;) {
      if (!reader_) {
        if (input_ == job_.inputs.size()) return std::nullopt;
        reader_.emplace(job_.inputs[input_]);
      }
      if (const std::optional<TextRow> row = reader_->next()) return row;
      read_ += reader_->position();
      reader_.reset();
      ++input_;
    }
  }

  std::vector<Row> read_batch() {
    std::vector<Row> batch;
    size_t bytes = 0;
    while (batch.size() < kBatchRows && bytes < kBatchBytes) {
      const std::optional<TextRow> text = next_row();
      if (!text) break;
      Row& row = batch.emplace_back();
      row.text = text->text;
      row.where = fmt::format("{}:{}", job_.inputs[input_].string(), text->line);
      row.directory = fs::absolute(job_.inputs[input_]).parent_path();
      bytes += row.text.size();
    }
    return batch;
  }

  void encode(std::vector<Row>& batch) const {
    parallel_for(0, static_cast<int64_t>(batch.size()), 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        encode_row(batch[static_cast<size_t>(i)], encoder_, job_.max_length);
    });
  }

  void take(const std::vector<Row>& batch) {
    for (const Row& row : batch) take(row);
  }

  void take(const Row& row) {
    ++report_.rows;
    if (!row.reason.empty()) {
      const bool first = ++report_.bad_rows[row.reason] == 1;
      if (first || examples_.size() < kExamples)
        examples_.push_back(row.where + ": " + row.problem);
      return;
    }
    const auto length = static_cast<int64_t>(row.encoded.ids.size());
    shards_.add(row.encoded.ids, row.encoded.assistant, row.id, row.encoded.media,
                job_.keep_domains ? row.domain : std::string_view());
    lengths_.add(length);
    ++report_.documents;
    report_.tokens += length;
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
    report_.lengths = {lengths_.percentile(0.5), lengths_.percentile(0.9),
                       lengths_.percentile(0.99), lengths_.largest()};
    report_.histogram = lengths_.histogram(kHistogramSteps);
  }

  const SplitJob& job_;
  const RowEncoder& encoder_;
  ShardWriter shards_;
  Progress progress_;
  size_t input_ = 0;                 // of job_.inputs, being read
  std::optional<RowReader> reader_;  // of it
  int64_t read_ = 0;                 // bytes of the inputs before it
  std::vector<std::string> examples_;
  LengthCount lengths_;
  SplitReport report_;
};

/// The report of a split that is on disk already.
SplitReport read_report(const fs::path& file) {
  SplitReport report =
      split_report_from(Json::parse(read_file(file), nullptr, false), file.string());
  report.up_to_date = true;
  return report;
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

SplitReport prepare_split(const SplitJob& job, const RowEncoder& encoder) {
  const std::string key = key_of(job, encoder);
  if (is_up_to_date(job.output, key)) {
    return read_report(job.output / "report.json");
  }
  SplitReport report;
  fs::create_directories(job.output.parent_path());
  write_directory_atomic(job.output, [&](const fs::path& directory) {
    report = SplitWriter(job, encoder, directory).run(key);
    write_file_atomic(directory / "report.json", to_json(report).dump(2) + "\n");
  });
  return report;
}

}  // namespace aerie
