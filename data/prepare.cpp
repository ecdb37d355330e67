#include "data/prepare.h"

#include <unistd.h>

#include <set>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "data/split.h"
#include "data/token_shards.h"

namespace aerie {
namespace {

constexpr int64_t kSampleTokens = 400;

Json read_config(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  const Json config = Json::parse(read_file(file), nullptr, false);
  AERIE_CHECK(config.is_object(), "{}: not a JSON object", file.string());
  return config;
}

int64_t target_vocab(const fs::path& model_dir) {
  const Json config = read_config(model_dir / "config.json");
  const Json& text = config.contains("text_config") ? config.at("text_config") : config;
  AERIE_CHECK(text.contains("vocab_size") && text.at("vocab_size").is_number_integer(),
              "{}: no vocab_size", (model_dir / "config.json").string());
  return text.at("vocab_size");
}

void take_ids(const Json& value, std::set<int32_t>& ids) {
  if (value.is_number_integer()) ids.insert(value.get<int32_t>());
  if (value.is_array())
    for (const Json& id : value) take_ids(id, ids);
}

/// Ids a draft must be able to propose: what ends a turn or a text, however rare in the data.
std::vector<int32_t> special_ids(const fs::path& model_dir, const Tokenizer& tokenizer,
                                 const TurnMarkers& markers) {
  std::set<int32_t> ids;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json config = read_config(model_dir / name);
    for (const char* key : {"bos_token_id", "eos_token_id"})
      if (config.contains(key)) take_ids(config.at(key), ids);
  }
  for (const int32_t id : tokenizer.encode(markers.end_of_turn).ids)
    if (tokenizer.is_special(id)) ids.insert(id);
  return {ids.begin(), ids.end()};
}

std::vector<int64_t> count_supervised(const TokenShards& shards, int64_t vocab) {
  std::vector<int64_t> counts(static_cast<size_t>(vocab), 0);
  for (int64_t d = 0; d < shards.size(); ++d) {
    const Document document = shards[d];
    for (size_t i = 0; i < document.ids.size(); ++i) {
      AERIE_CHECK(document.ids[i] < vocab,
                  "token id {} is outside the target's vocabulary of {}: the "
                  "tokenizer does not belong to this config.json",
                  document.ids[i], vocab);
      counts[static_cast<size_t>(document.ids[i])] += document.assistant[i];
    }
  }
  return counts;
}

void make_vocabulary(const PrepareOptions& options, const Tokenizer& tokenizer,
                     const TurnMarkers& markers, PrepareReport& report) {
  const PreparedData places(options.output);
  const int64_t vocab = target_vocab(options.model_dir);
  const std::vector<int64_t> counts = count_supervised(TokenShards(places.train), vocab);
  if (options.vocabulary) {
    AERIE_CHECK(options.vocabulary->target_size == vocab,
                "the given draft vocabulary is one of {} tokens, and the target has {}",
                options.vocabulary->target_size, vocab);
    report.vocabulary = *options.vocabulary;
  } else {
    report.vocabulary = make_draft_vocabulary(counts, std::min(options.draft_vocab, vocab),
                                              special_ids(options.model_dir, tokenizer, markers));
  }
  report.coverage = vocabulary_coverage(counts, report.vocabulary);
  for (const int64_t size : {8192, 16384, 32768})
    report.coverage_by_size.emplace_back(size, vocabulary_coverage(counts, size));
  if (!fs::exists(places.vocabulary) ||
      load_draft_vocabulary(places.vocabulary).hash != report.vocabulary.hash)
    save_draft_vocabulary(places.vocabulary, report.vocabulary);
}

/// The document's text; what the assistant wrote is green on a terminal, in brackets elsewhere.
std::string coloured(const Document& document, const Tokenizer& tokenizer) {
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  const std::string open = terminal ? "\033[32m" : "⟦", close = terminal ? "\033[0m" : "⟧";
  const auto size = static_cast<size_t>(std::min(document.size(), kSampleTokens));
  std::string out;
  for (size_t begin = 0, end; begin < size; begin = end) {
    for (end = begin; end < size && document.assistant[end] == document.assistant[begin];) ++end;
    const std::string text = tokenizer.decode(document.ids.subspan(begin, end - begin), false);
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

void log_report(const PrepareOptions& options, const PrepareReport& report,
                const Tokenizer& tokenizer) {
  if (options.show_sample && !report.train.up_to_date) {
    const TokenShards shards(PreparedData(options.output).train);
    log_info("sample, supervised text marked:\n" + coloured(shards[0], tokenizer));
  }
  log_split("train", report.train);
  if (!options.heldout.empty()) log_split("heldout", report.heldout);
  std::string line =
      fmt::format("draft vocabulary: {} ids cover {:.2f} % of the supervised tokens (",
                  report.vocabulary.size(), 100 * report.coverage);
  for (const auto& [size, share] : report.coverage_by_size)
    line += fmt::format("{}{}: {:.2f} %", size == 8192 ? "" : ", ", size, 100 * share);
  log_info(line + ")");
}

}  // namespace

PrepareReport prepare(const PrepareOptions& options) {
  AERIE_CHECK(!options.train.empty(), "data.train names no file");
  AERIE_CHECK(options.max_length > 1, "data.max_length is {}: give at least 2", options.max_length);
  const Tokenizer tokenizer(options.model_dir);
  const ChatTemplate chat_template(options.model_dir);
  const MediaProcessors processors = read_media_processors(options.model_dir);
  const ChatEncoder encoder(tokenizer, chat_template, options.chat, processors);
  const PreparedData places(options.output);

  PrepareReport report;
  const SplitJob train{"train", options.train, places.train, options.max_length,
                       options.max_bad_rows};
  report.train = prepare_split(train, encoder);
  if (!options.heldout.empty()) {
    const SplitJob heldout{"heldout", options.heldout, places.heldout, options.max_length,
                           options.max_bad_rows};
    report.heldout = prepare_split(heldout, encoder);
  }
  make_vocabulary(options, tokenizer, encoder.markers(), report);
  log_report(options, report, tokenizer);
  return report;
}

}  // namespace aerie
