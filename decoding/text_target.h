// A target with its words: model, tokenizer, chat template and preprocessors of one Hugging Face
// directory.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/media_processor.h"
#include "data/speech_encoder.h"
#include "data/tokenizer.h"
#include "decoding/decoders.h"
#include "decoding/engine.h"
#include "decoding/prompts.h"
#include "target_models/model.h"

namespace aerie {

/// Stays where it is made: its parts know each other.
struct TextTarget {
  /// `device`: "cpu", "cuda:0"...; `dtype`: "bfloat16" or "float32". Throws Error.
  TextTarget(const std::filesystem::path& directory, const std::string& device,
             const std::string& dtype);
  TextTarget(const TextTarget&) = delete;
  TextTarget& operator=(const TextTarget&) = delete;

  /// Messages rendered up to where the assistant speaks, as ids, with their media placed.
  /// `variables`: the template's.
  MediaTokens encode(const Json& messages, const Json& variables) const;
  /// What the row asks first; of tokenised rows the ids before the first supervised one. Throws
  /// Error for a row of messages where the target speaks, and the reverse.
  MediaTokens encode_prompt(const Conversation& conversation) const;
  /// An output as text, special tokens left out; speech as its ids.
  std::string decode(std::span<const int32_t> tokens) const;
  /// The same in pieces: what each token completed, then the rest.
  std::vector<std::string> pieces(std::span<const int32_t> tokens) const;
  /// Pages that let `concurrency` of the requests run at a time, within half of the free memory.
  int64_t pages_for(std::span<const Request> requests, int64_t concurrency) const;

  Tokenizer tokenizer;
  std::optional<SpeechEncoder> speech;  ///< of a target that speaks
  std::optional<ChatTemplate> chat;     ///< of all others
  MediaProcessors processors;
  std::unique_ptr<TargetModel> model;
};

/// What requests of one command have in common.
struct RequestRule {
  int64_t max_new_tokens = 256;
  double temperature = 0;
  uint64_t seed = 0;
  bool ignore_eos = false;
};
/// The seed of a request is a function of the command's seed and the row's id: its output does not
/// depend on what else is run.
Request make_request(const TextTarget& target, const std::string& id, MediaTokens prompt,
                     const RequestRule& rule);
/// One for the prompt of each row. Throws Error naming the row.
std::vector<Request> make_requests(const TextTarget& target, const std::vector<PromptRow>& rows,
                                   const RequestRule& rule);

}  // namespace aerie
