#include "data/log_mel.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/stft.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "common/error.h"

namespace aerie {
namespace {

using at::Tensor;

constexpr double kMaxHertz = 8000, kBreakHertz = 1000, kBreakMel = 15;
const double kLogStep = std::log(6.4) / 27;  // per mel above the break

double hertz_to_mel(double hertz) {
  return hertz < kBreakHertz ? 3 * hertz / 200
                             : kBreakMel + std::log(hertz / kBreakHertz) / kLogStep;
}

Tensor mel_to_hertz(const Tensor& mels) {
  return at::where(mels < kBreakMel, mels * 200 / 3,
                   kBreakHertz * ((mels - kBreakMel) * kLogStep).exp());
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
  const int64_t missing = settings.samples() - samples.numel();
  AERIE_CHECK(missing >= 0, "log_mel: {} samples, and the window holds {}", samples.numel(),
              settings.samples());
  const Tensor window = at::hann_window(settings.n_fft, at::kFloat);
  const Tensor spectrum =
      at::stft(at::constant_pad_nd(samples, {0, missing}), settings.n_fft, settings.hop,
               settings.n_fft, window, /*center=*/true, "reflect",
               /*normalized=*/false, /*onesided=*/true, /*return_complex=*/true);
  // The last frame is centred on the window's end and left out, as in Whisper.
  const Tensor power = at::view_as_real(spectrum.slice(1, 0, settings.frames())).square().sum(-1);
  const Tensor log = filters.matmul(power).clamp_min_(1e-10).log10_();
  return at::maximum(log, log.max() - 8.0).add_(4.0).div_(4.0);
}

int64_t heard_frames(int64_t samples, const LogMelSettings& settings) {
  return std::min((samples + settings.hop - 1) / settings.hop, settings.frames());
}

}  // namespace aerie
