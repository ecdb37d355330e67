// A row for a target that speaks: what it is to say, in whose voice, and the speech it answered.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/json.h"

namespace aerie {

/// Speech is ids of the target's own codebook; turning sound into them is its speech tokenizer's
/// work, not ours.
struct SpeechRow {
  std::string prompt_text;             // instruction, and the words of prompt_speech
  std::vector<int32_t> prompt_speech;  // of the voice to speak in
  std::string text;                    // to be said
  std::vector<int32_t> speech;         // the answer; empty: it is asked for
  bool cut = false;                    // the answer stops before its end
};

/// From {"text", "speech", "prompt_text", "prompt_speech", "finish_reason"}; only "text" must be
/// there. Ids are a list of integers, or the name of a file that holds them as text, relative to
/// `directory`. "finish_reason": "length" is a speech that was cut. Throws RowError.
SpeechRow parse_speech_row(const Json& row, const std::filesystem::path& directory);

/// The same row with `speech` as its answer.
Json speech_row_json(const SpeechRow& row, const std::vector<int32_t>& speech,
                     const std::string& finish_reason);

}  // namespace aerie
