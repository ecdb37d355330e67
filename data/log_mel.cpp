#include "data/log_mel.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/stft.h>
#include <ATen/ops/where.h>

#include <cmath>

#include "common/error.h"

namespace aerie {
namespace {

using at::Tensor;

constexpr double kMaxHertz = 8000, kBreakHertz = 1000, kBreakMel = 15;
constexpr double kLeastPower = 1e-10, kQuietest = -10;
const double kLogStep = std::log(6.4) / 27;  // per mel above the break

double hertz_to_mel(double hertz) {
  return hertz < kBreakHertz ? 3 * hertz / 200
                             : kBreakMel + std::log(hertz / kBreakHertz) / kLogStep;
}

Tensor mel_to_hertz(const Tensor& mels) {
  return at::where(mels < kBreakMel, mels * 200 / 3,
                   kBreakHertz * ((mels - kBreakMel) * kLogStep).exp());
}

/// samples [T] f32 -> [n_fft/2+1, frames], the first of its frames. Those that reach beyond an end
/// see it mirrored; the one that is centred on a window's end is left out, as in Whisper.
Tensor power_spectrum(const Tensor& samples, int64_t frames, const LogMelSettings& settings) {
  const Tensor window = at::hann_window(settings.n_fft, at::kFloat);
  const Tensor spectrum =
      at::stft(samples, settings.n_fft, settings.hop, settings.n_fft, window, /*center=*/true,
               "reflect", /*normalized=*/false, /*onesided=*/true, /*return_complex=*/true);
  const Tensor parts = at::view_as_real(spectrum.narrow(1, 0, frames));
  const Tensor imaginary = parts.select(-1, 1);
  return parts.select(-1, 0).square().addcmul_(imaginary, imaginary);
}

}  // namespace

Tensor mel_filters(const LogMelSettings& settings) {
  const int64_t mels = settings.mels;
  const Tensor edges =
      mel_to_hertz(at::linspace(0, hertz_to_mel(kMaxHertz), mels + 2, at::kDouble));  // [mels+2] Hz
  const Tensor bins = at::linspace(0, settings.rate / 2.0, settings.n_fft / 2 + 1, at::kDouble);
  const Tensor low = edges.slice(0, 0, mels).unsqueeze(1),
               middle = edges.slice(0, 1, mels + 1).unsqueeze(1),
               high = edges.slice(0, 2, mels + 2).unsqueeze(1);
  const Tensor rising = (bins - low) / (middle - low), falling = (high - bins) / (high - middle);
  return (at::minimum(rising, falling).clamp_min(0) * (2 / (high - low))).to(at::kFloat);
}

Tensor log_mel(const Tensor& samples, const Tensor& filters, const LogMelSettings& settings) {
  const int64_t count = samples.numel(), half = settings.n_fft / 2;
  AERIE_CHECK(count <= settings.samples(), "log_mel: {} samples, and the window holds {}", count,
              settings.samples());
  // Frames behind the last that reaches a sample are silent: their power need not be computed.
  const int64_t sounding =
      std::min((count + half + settings.hop - 1) / settings.hop, settings.frames());
  const int64_t length = std::min(sounding * settings.hop + half, settings.samples());
  const Tensor power =
      power_spectrum(at::constant_pad_nd(samples, {0, length - count}), sounding, settings);
  const Tensor log = at::full({filters.size(0), settings.frames()}, kQuietest, at::kFloat);
  log.narrow(1, 0, sounding).copy_(filters.matmul(power).clamp_min_(kLeastPower).log10_());
  return at::maximum(log, log.max() - 8.0).add_(4.0).div_(4.0);
}

int64_t heard_frames(int64_t samples, const LogMelSettings& settings) {
  return std::min((samples + settings.hop - 1) / settings.hop, settings.frames());
}

}  // namespace aerie
