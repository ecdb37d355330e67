// Audio as the tower of Qwen2-Audio reads it: log-mel frames of one window.
#pragma once
#include "data/media_processor.h"

namespace aerie {

/// `settings`: the JSON of a WhisperFeatureExtractor; `where` its file; `token` the placeholder.
/// A piece of audio of at most one window makes {n,1,1} tokens, n = heard frames / 4 (a convolution
/// and a pooling halve them); its features are [mels, 2 * ceil(heard / 2) + 1] log-mel frames, all
/// that the convolutions of the heard ones reach, cut to the window. Throws Error for another
/// extractor, a missing or an unusual setting.
std::unique_ptr<MediaProcessor> make_audio_processor(const Json& settings, int32_t token,
                                                     const std::string& where);

}  // namespace aerie
