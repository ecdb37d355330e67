// Log-mel spectrograms as the Whisper feature extractor of transformers makes them.
#pragma once
#include <torch/types.h>

#include <cstdint>

namespace aerie {

struct LogMelSettings {
  int64_t mels = 128, rate = 16000, n_fft = 400, hop = 160;
  int64_t seconds = 30;  ///< the window: shorter audio is filled up with silence

  int64_t samples() const { return seconds * rate; }
  int64_t frames() const { return samples() / hop; }
};

/// Slaney's filters [mels, n_fft/2+1] f32 from 0 to 8000 Hz: triangles on a scale that is linear
/// below 1 kHz and logarithmic above, of equal area.
at::Tensor mel_filters(const LogMelSettings& settings);

/// samples [T] f32, T <= settings.samples() -> [mels, frames]: log10 of the power in each filter,
/// no lower than 8 below its maximum, (x + 4) / 4. `filters` from above.
at::Tensor log_mel(const at::Tensor& samples, const at::Tensor& filters,
                   const LogMelSettings& settings);

/// Frames that begin within T samples.
int64_t heard_frames(int64_t samples, const LogMelSettings& settings);

}  // namespace aerie
