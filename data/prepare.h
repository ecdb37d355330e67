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
  std::vector<int64_t> histogram;           // documents in equal steps from 0 to the largest
  bool up_to_date = false;                  // nothing was done: it was there already

  double supervised_share() const {
    return tokens == 0 ? 0 : static_cast<double>(supervised) / static_cast<double>(tokens);
  }
};

/// Share of the supervised tokens that a draft vocabulary of this size has. Of the training data it
/// flatters: what a size is worth shows in the held-out documents.
struct Coverage {
  int64_t size = 0;
  double train = 0;
  std::optional<double> heldout;
};

struct PrepareReport {
  SplitReport train, heldout;
  DraftVocabulary vocabulary;
  std::vector<Coverage> coverage;  // of the vocabulary, then of other sizes from small to large
};

/// Does what has not been done yet: a split whose inputs, tokenizer, template and options hash to
/// what is on disk is kept. Works on the threads of parallel_for; shows progress and a summary on
/// stderr. Throws Error: a missing or empty file, more bad rows than allowed (with file, line and
/// reason), a vocabulary that does not fit.
PrepareReport prepare(const PrepareOptions& options);

}  // namespace aerie
