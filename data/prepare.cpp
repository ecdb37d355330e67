#include "data/prepare.h"

#include <unistd.h>

#include <mutex>
#include <set>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/threads.h"
#include "data/speech_encoder.h"
#include "data/split.h"
#include "data/token_shards.h"

namespace aerie {
namespace {

constexpr int64_t kSampleTokens = 400;
constexpr int64_t kSizes[] = {4096, 8192, 16384, 32768};  // whose coverage is reported

Json read_config(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  const Json config = Json::parse(read_file(file), nullptr, false);
  AERIE_CHECK(config.is_object(), "{}: not a JSON object", file.string());
  return config;
}

/// Ids of the target: those that it can write, and those that its prompts may hold.
struct TargetIds {
  int64_t written = 0, read = 0;
};

TargetIds target_ids(const fs::path& model_dir) {
  const Json config = read_config(model_dir / "config.json");
  const Json& text = config.contains("text_config") ? config.at("text_config") : config;
  AERIE_CHECK(text.contains("vocab_size") && text.at("vocab_size").is_number_integer(),
              "{}: no vocab_size", (model_dir / "config.json").string());
  const int64_t written = text.at("vocab_size");
  const std::optional<SpeechIds> speech = read_speech_ids(model_dir);
  return {written, written + (speech ? speech->text_vocab : 0)};
}

void take_ids(const Json& value, std::set<int32_t>& ids) {
  if (value.is_number_integer()) ids.insert(value.get<int32_t>());
  if (value.is_array())
    for (const Json& id : value) take_ids(id, ids);
}

/// Ids a draft must be able to propose: what ends a turn or a text, however rare in the data.
std::vector<int32_t> special_ids(const fs::path& model_dir, const RowEncoder& encoder) {
  std::set<int32_t> ids;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json config = read_config(model_dir / name);
    for (const char* key : {"bos_token_id", "eos_token_id"})
      if (config.contains(key)) take_ids(config.at(key), ids);
  }
  for (const int32_t id : encoder.ending_ids()) ids.insert(id);
  return {ids.begin(), ids.end()};
}

void count_document(const Document& document, const TargetIds& ids, std::vector<int64_t>& counts) {
  for (size_t i = 0; i < document.ids.size(); ++i) {
    const int64_t allowed = document.assistant[i] ? ids.written : ids.read;
    AERIE_CHECK(document.ids[i] < allowed,
                "token id {} is outside the target's vocabulary of {}: the "
                "tokenizer does not belong to this config.json",
                document.ids[i], allowed);
    if (document.assistant[i]) ++counts[static_cast<size_t>(document.ids[i])];
  }
}

/// How often each id is supervised. One file of the shards is in memory at a time.
std::vector<int64_t> count_supervised(const TokenShards& shards, const TargetIds& ids) {
  std::vector<int64_t> counts(static_cast<size_t>(ids.written), 0);
  std::mutex mutex;
  size_t file = 0;
  for (const auto& [first, last] : shards.files()) {
    // A few ranges a thread: each has counts of its own, as large as the vocabulary.
    const int64_t grain = (last - first) / (4 * num_threads()) + 1;
    parallel_for(first, last, grain, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> mine(counts.size(), 0);
      for (int64_t d = begin; d < end; ++d) count_document(shards[d], ids, mine);
      const std::lock_guard lock(mutex);
      std::transform(mine.begin(), mine.end(), counts.begin(), counts.begin(), std::plus<>());
    });
    shards.drop(file++);
  }
  return counts;
}

void measure_coverage(const PrepareOptions& options, const TargetIds& ids,
                      const std::vector<int64_t>& counts, const std::vector<int32_t>& forced,
                      PrepareReport& report) {
  std::vector<int64_t> heldout;
  if (!options.heldout.empty()) {
    heldout = count_supervised(TokenShards(PreparedData(options.output).heldout), ids);
  }
  const auto measure = [&](const DraftVocabulary& vocabulary) {
    Coverage coverage{vocabulary.size(), vocabulary_coverage(counts, vocabulary), {}};
    if (!heldout.empty()) coverage.heldout = vocabulary_coverage(heldout, vocabulary);
    report.coverage.push_back(coverage);
  };
  measure(report.vocabulary);
  for (const int64_t size : kSizes) {
    if (size < ids.written && size != report.vocabulary.size())
      measure(make_draft_vocabulary(counts, size, forced));
  }
}

void make_vocabulary(const PrepareOptions& options, const RowEncoder& encoder,
                     PrepareReport& report) {
  const PreparedData places(options.output);
  const TargetIds ids = target_ids(options.model_dir);
  const std::vector<int64_t> counts = count_supervised(TokenShards(places.train), ids);
  const std::vector<int32_t> forced = special_ids(options.model_dir, encoder);
  if (options.vocabulary) {
    AERIE_CHECK(options.vocabulary->target_size == ids.written,
                "the given draft vocabulary is one of {} tokens, and the target has {}",
                options.vocabulary->target_size, ids.written);
    report.vocabulary = *options.vocabulary;
  } else {
    report.vocabulary =
        make_draft_vocabulary(counts, std::min(options.draft_vocab, ids.written), forced);
  }
  measure_coverage(options, ids, counts, forced, report);
  if (!fs::exists(places.vocabulary) ||
      load_draft_vocabulary(places.vocabulary).hash != report.vocabulary.hash)
    save_draft_vocabulary(places.vocabulary, report.vocabulary);
}

/// The document's text; what the assistant wrote is green on a terminal, in brackets elsewhere.
std::string coloured(const Document& document, const RowEncoder& encoder) {
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  const std::string open = terminal ? "\033[32m" : "⟦", close = terminal ? "\033[0m" : "⟧";
  const auto size = static_cast<size_t>(std::min(document.size(), kSampleTokens));
  std::string out;
  for (size_t begin = 0, end; begin < size; begin = end) {
    for (end = begin; end < size && document.assistant[end] == document.assistant[begin];) ++end;
    const std::string text = encoder.decode(document.ids.subspan(begin, end - begin));
    out += document.assistant[begin] ? open + text + close : text;
  }
  return size < document.ids.size() ? out + " ..." : out;
}

void log_split(const char* name, const SplitReport& split) {
  log_info(
      fmt::format("{}: {} documents of {} rows, {} tokens, {:.1f} % supervised; length median {}, "
                  "90 % {}, 99 % {}, largest {}; {} cut{}",
                  name, split.documents, split.rows, split.tokens, 100 * split.supervised_share(),
                  split.lengths[0], split.lengths[1], split.lengths[2], split.lengths[3],
                  split.truncated, split.up_to_date ? " (up to date)" : ""));
}

std::string coverage_table(const std::vector<Coverage>& all) {
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    text += fmt::format("  {:>6} ids  train {:6.2f} %", all[i].size, 100 * all[i].train);
    if (all[i].heldout) text += fmt::format("  held out {:6.2f} %", 100 * *all[i].heldout);
    text += i == 0 ? "  (this run's)\n" : "\n";
  }
  return text;
}

void log_report(const PrepareOptions& options, const PrepareReport& report,
                const RowEncoder& encoder) {
  if (options.show_sample && !report.train.up_to_date) {
    const TokenShards shards(PreparedData(options.output).train);
    log_info("sample, supervised text marked:\n" + coloured(shards[0], encoder));
  }
  log_split("train", report.train);
  if (!options.heldout.empty()) log_split("heldout", report.heldout);
  log_info("draft vocabulary, share of the supervised tokens that it has:\n" +
           coverage_table(report.coverage));
}

PrepareReport prepare_rows(const PrepareOptions& options, const RowEncoder& encoder) {
  const PreparedData places(options.output);
  PrepareReport report;
  const SplitJob train{"train", options.train, places.train, options.max_length,
                       options.max_bad_rows};
  report.train = prepare_split(train, encoder);
  if (!options.heldout.empty()) {
    const SplitJob heldout{"heldout",          options.heldout,      places.heldout,
                           options.max_length, options.max_bad_rows, true};
    report.heldout = prepare_split(heldout, encoder);
  }
  make_vocabulary(options, encoder, report);
  log_report(options, report, encoder);
  return report;
}

}  // namespace

PrepareReport prepare(const PrepareOptions& options) {
  AERIE_CHECK(!options.train.empty(), "data.train names no file");
  AERIE_CHECK(options.max_length > 1, "data.max_length is {}: give at least 2", options.max_length);
  const Tokenizer tokenizer(options.model_dir);
  if (const std::optional<SpeechIds> speech = read_speech_ids(options.model_dir))
    return prepare_rows(options, SpeechEncoder(tokenizer, *speech));
  const ChatTemplate chat_template(options.model_dir);
  const MediaProcessors processors = read_media_processors(options.model_dir);
  return prepare_rows(options, ChatEncoder(tokenizer, chat_template, options.chat, processors));
}

}  // namespace aerie
