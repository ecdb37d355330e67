// aerie prepare: conversations -> token shards and the draft's vocabulary.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/chat_encoder.h"
#include "data/vocab_map.h"

namespace aerie {

struct PrepareOptions {
  std::vector<std::filesystem::path> train, heldout;  // heldout may be empty
  std::filesystem::path model_dir;                    // tokenizer, chat template, config.json
  std::filesystem::path output;                       // see PreparedData for what it gets
  ChatOptions chat;
  int64_t max_length = 4096;                  // tokens a document; longer ones are cut at a turn
  int64_t draft_vocab = 8192;                 // W; at least the target's vocabulary: all ids
  std::optional<DraftVocabulary> vocabulary;  // take this one instead of counting
  double max_bad_rows = 0.01;                 // share of the rows that may be unusable
  bool show_sample = true;                    // print a document with its supervised text coloured
};

/// Where prepare puts things.
struct PreparedData {
  explicit PreparedData(const std::filesystem::path& output)
      : train(output / "train"),
        heldout(output / "heldout"),
        vocabulary(output / "vocabulary.safetensors") {}
  std::filesystem::path train, heldout;  // TokenShards
  std::filesystem::path vocabulary;      // DraftVocabulary
};

struct SplitReport {
  int64_t rows = 0, documents = 0, tokens = 0, supervised = 0, truncated = 0;
  std::map<std::string, int64_t> bad_rows;  // by reason
  std::array<int64_t, 4> lengths{};         // median, 90 %, 99 %, largest
  bool up_to_date = false;                  // nothing was done: it was there already

  double supervised_share() const {
    return tokens == 0 ? 0 : static_cast<double>(supervised) / static_cast<double>(tokens);
  }
};

struct PrepareReport {
  SplitReport train, heldout;
  DraftVocabulary vocabulary;
  double coverage = 0;  // share of the supervised tokens that the vocabulary has
  std::vector<std::pair<int64_t, double>> coverage_by_size;  // 8192, 16384, 32768
};

/// Does what has not been done yet: a split whose inputs, tokenizer, template and options hash to
/// what is on disk is kept. Works on the threads of parallel_for; shows progress and a summary on
/// stderr. Throws Error: a missing or empty file, more bad rows than allowed (with file, line and
/// reason), a vocabulary that does not fit.
PrepareReport prepare(const PrepareOptions& options);

}  // namespace aerie
