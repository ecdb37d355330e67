// Audio files to mono samples at the rate that a model hears: wav, flac, ogg and mp3 (libsndfile),
// resampled by soxr.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace aerie {

struct AudioLimits {
  int64_t rate = 16000;     ///< of the samples that come out, Hz
  double max_seconds = 30;  ///< longer audio is refused: the model would not hear its end
};

/// `bytes` of a whole file -> samples [T] f32 in -1..1, T = ceil(samples in the file * rate / its
/// rate). Two channels are averaged. `name` stands in messages. Throws Error: empty, no audio,
/// truncated or damaged (where the format tells), more than two channels, not finite, too long.
at::Tensor decode_audio(std::string_view bytes, const std::string& name, const AudioLimits& limits);

/// T of the above; decodes, because headers of damaged files lie, but does not resample.
int64_t audio_length(std::string_view bytes, const std::string& name, const AudioLimits& limits);

}  // namespace aerie
