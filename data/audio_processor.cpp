#include "data/audio_processor.h"

#include "common/files.h"
#include "data/audio.h"
#include "data/log_mel.h"
#include "data/setting.h"

namespace aerie {
namespace {

/// What would change the features if it were ignored.
void refuse_unusual_extractor(const Json& settings, const std::string& where) {
  for (const char* key : {"dither", "padding_value"}) {
    const bool none = !settings.contains(key) || settings.at(key) == 0;
    AERIE_CHECK(none, "{}: \"{}\" is {}, and only 0 is supported", where, key,
                settings.at(key).dump());
  }
  const bool normalised = settings.contains("do_normalize") && settings.at("do_normalize") == true;
  AERIE_CHECK(!normalised, "{}: \"do_normalize\" is true, which is not supported", where);
}

LogMelSettings read_log_mel(const Json& settings, const std::string& where) {
  refuse_unusual_extractor(settings, where);
  LogMelSettings s;
  s.mels = setting<int64_t>(settings, "feature_size", where);
  s.rate = setting<int64_t>(settings, "sampling_rate", where);
  s.n_fft = setting<int64_t>(settings, "n_fft", where);
  s.hop = setting<int64_t>(settings, "hop_length", where);
  s.seconds = setting<int64_t>(settings, "chunk_length", where);
  AERIE_CHECK(s.mels > 0 && s.rate > 0 && s.n_fft > 0 && s.hop > 0 && s.seconds > 0,
              "{}: feature_size, sampling_rate, n_fft, hop_length and chunk_length must be above 0",
              where);
  return s;
}

class LogMelProcessor final : public MediaProcessor {
 public:
  LogMelProcessor(const LogMelSettings& settings, int32_t token, std::string fingerprint)
      : settings_(settings),
        filters_(mel_filters(settings)),
        limits_{settings.rate, static_cast<double>(settings.seconds)},
        token_(token),
        fingerprint_(std::move(fingerprint)) {}

  int32_t token() const override { return token_; }
  MediaGrid measure(const std::string& source) const override {
    const std::string name = describe_media(source);
    return grid_of(audio_length(read_media(source), name, limits_), name);
  }
  MediaFeatures load(const std::string& source) const override {
    const std::string name = describe_media(source);
    const at::Tensor samples = decode_audio(read_media(source), name, limits_);
    const MediaGrid grid = grid_of(samples.numel(), name);
    const int64_t rows = (heard_frames(samples.numel(), settings_) + 1) / 2;
    const int64_t reached = std::min(2 * rows + 1, settings_.frames());
    return {log_mel(samples, filters_, settings_).narrow(1, 0, reached).clone(), grid};
  }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  MediaGrid grid_of(int64_t samples, const std::string& name) const {
    const int64_t tokens = (heard_frames(samples, settings_) + 1) / 4;
    AERIE_CHECK(tokens > 0,
                "{}: the audio has {} samples, and the model hears no fewer than {}: leave it out",
                name, samples, 2 * settings_.hop + 1);
    return {tokens, 1, 1};
  }

  LogMelSettings settings_;
  at::Tensor filters_;  // [mels, n_fft/2+1]
  AudioLimits limits_;
  int32_t token_;
  std::string fingerprint_;
};

}  // namespace

std::unique_ptr<MediaProcessor> make_audio_processor(const Json& settings, int32_t token,
                                                     const std::string& where) {
  const std::string type = settings.value("feature_extractor_type", "");
  AERIE_CHECK(type == "WhisperFeatureExtractor",
              "{}: feature_extractor_type \"{}\" is not supported; known: WhisperFeatureExtractor",
              where, type);
  return std::make_unique<LogMelProcessor>(read_log_mel(settings, where), token,
                                           hash_hex(fmt::format("{} {}", token, settings.dump())));
}

}  // namespace aerie
