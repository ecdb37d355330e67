// The answers of `aerie resample` as they come: rows to the output, failures apart, progress,
// counts.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/progress.h"
#include "decoding/prompts.h"
#include "decoding/row_log.h"

namespace aerie {

/// Several threads may call it.
class AnswerLog {
 public:
  /// `rows`: how many are to come. The logs must outlive it.
  AnswerLog(RowLog& output, RowLog& failures, int64_t rows);

  void count_tokens(int64_t tokens);
  /// A row to train on. Throws Error where it cannot be written (disk full).
  void answered(const Json& row);
  void failed(const PromptRow& row, const std::string& error);
  /// Ends the progress; warns of failures.
  void finish();
  /// Rows answered, stopped (by the model, not by the limit) and failed; tokens, seconds.
  Json summary() const;

 private:
  void show();
  double seconds() const;

  RowLog& output_;
  RowLog& failures_;
  std::mutex mutex_;
  Progress progress_;
  double start_;
  int64_t answered_ = 0, stopped_ = 0, failed_ = 0, tokens_ = 0;
};

/// The row with its answers in place of its own, the last message with the keys of `last` besides,
/// and why the last answer ended ("stop", "length").
Json answered_row(const PromptRow& row, const std::vector<std::string>& answers,
                  const std::string& reason, const Json& last = {});

}  // namespace aerie
