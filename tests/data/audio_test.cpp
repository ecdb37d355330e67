// Audio files to samples and log-mel features: equal to the Whisper feature extractor's on real
// speech in four formats, and what cannot be heard is refused by file name.
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <sndfile.h>

#include <cmath>
#include <numbers>

#include "data/audio.h"
#include "data/log_mel.h"
#include "data/safetensors.h"
#include "tests/testing.h"

namespace aerie::testing {
namespace {

using at::Tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

fs::path speech(const std::string& suffix) { return golden_dir() / "audio" / ("speech." + suffix); }

class Formats : public ::testing::TestWithParam<const char*> {
 protected:
  Tensor golden(const std::string& name) const {
    return SafetensorsFile(golden_dir() / "audio/features.safetensors")
        .tensor(std::string(GetParam()) + "." + name);
  }
};

TEST_P(Formats, FeaturesEqualTransformers) {
  const std::string bytes = read_file(speech(GetParam()));
  const Tensor samples = decode_audio(bytes, GetParam(), {});
  EXPECT_EQ(samples.numel(), golden("samples").item<int64_t>());
  EXPECT_EQ(audio_length(bytes, GetParam(), {}), samples.numel());
  const LogMelSettings settings;
  EXPECT_EQ(heard_frames(samples.numel(), settings), golden("frames").item<int64_t>());
  const Tensor features = log_mel(samples, mel_filters(settings), settings),
               known = golden("features");
  ASSERT_EQ(features.sizes(), at::IntArrayRef({128, 3000}));
  const int64_t frames = known.size(1);
  EXPECT_LE((features.slice(1, 0, frames) - known).abs().max().item<double>(), 1e-4);
  const Tensor silence = features.slice(1, frames) - known.min();
  EXPECT_LE(silence.abs().max().item<double>(), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Audio, Formats, ::testing::Values("flac", "wav", "ogg", "mp3"));

TEST(LogMel, FiltersEqualTransformers) {
  const SafetensorsFile file(golden_dir() / "audio/features.safetensors");
  const Tensor error = mel_filters({}) - file.tensor("filters");
  EXPECT_LE(error.abs().max().item<double>(), 1e-8);
}

TEST(LogMel, AShorterWindow) {
  const LogMelSettings settings{.seconds = 2};
  const Tensor samples = at::arange(32000, at::kFloat).mul(0.3).sin();
  EXPECT_EQ(log_mel(samples, mel_filters(settings), settings).sizes(), at::IntArrayRef({128, 200}));
  EXPECT_THAT(error_of([&] { log_mel(at::zeros({32001}), mel_filters(settings), settings); }),
              HasSubstr("32001 samples"));
}

TEST(LogMel, SilenceBehindTheSamplesIsComputedOrNotAlike) {
  const LogMelSettings settings{.seconds = 2};
  const Tensor filters = mel_filters(settings);
  for (const int64_t count : {1, 160, 5001, 31600, 31640, 31641, 31999}) {
    const Tensor samples = at::arange(1, count + 1, at::kFloat).mul(0.3).sin();
    const Tensor whole = at::constant_pad_nd(samples, {0, settings.samples() - count});
    const Tensor error = log_mel(samples, filters, settings) - log_mel(whole, filters, settings);
    EXPECT_LE(error.abs().max().item<double>(), 1e-6) << count << " samples";
  }
}

/// A tone of 440 Hz as a wav of any rate and number of channels; the second channel is silent.
fs::path tone(const Scratch& scratch, int rate, int channels, double seconds) {
  const fs::path path = scratch / fmt::format("tone-{}-{}.wav", rate, channels);
  SF_INFO info{};
  info.samplerate = rate;
  info.channels = channels;
  info.format = SF_FORMAT_WAV | SF_FORMAT_FLOAT;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  const auto frames = static_cast<sf_count_t>(seconds * rate);
  std::vector<float> samples(static_cast<size_t>(frames * channels), 0.0f);
  for (sf_count_t i = 0; i < frames; ++i) {
    samples[static_cast<size_t>(i * channels)] =
        static_cast<float>(std::sin(2 * std::numbers::pi * 440 * static_cast<double>(i) / rate));
  }
  EXPECT_EQ(sf_writef_float(file, samples.data(), frames), frames);
  sf_close(file);
  return path;
}

TEST(Audio, OtherRatesBecomeTheSameTone) {
  const Scratch scratch;
  const Tensor expected =
      (at::arange(8000, at::kDouble) * (2 * std::numbers::pi * 440 / 16000)).sin().to(at::kFloat);
  for (const int rate : {8000, 22050, 44100, 48000}) {
    const Tensor samples = decode_audio(read_file(tone(scratch, rate, 1, 0.5)), "tone", {});
    ASSERT_EQ(samples.numel(), 8000) << rate;
    // The ends ring: the filter sees silence beyond them.
    const Tensor error = (samples - expected).slice(0, 400, 7600).abs().max();
    EXPECT_LE(error.item<double>(), 2e-3) << rate;
  }
  EXPECT_EQ(audio_length(read_file(tone(scratch, 44100, 1, 0.3)), "tone", {}), 4800);
}

TEST(Audio, TwoChannelsAreAveraged) {
  const Scratch scratch;
  const Tensor one = decode_audio(read_file(tone(scratch, 16000, 1, 0.1)), "one", {});
  const Tensor two = decode_audio(read_file(tone(scratch, 16000, 2, 0.1)), "two", {});
  EXPECT_TRUE(two.equal(one / 2));
}

class Refused : public ::testing::Test {
 protected:
  static std::string refusal(const std::string& bytes) {
    return error_of([&] { decode_audio(bytes, "rows.jsonl:7: speech", {}); });
  }
  static std::string file(const std::string& suffix) { return read_file(speech(suffix)); }
};

TEST_F(Refused, EmptyFilesAndEmptyAudio) {
  EXPECT_THAT(refusal(""), AllOf(HasSubstr("rows.jsonl:7: speech"), HasSubstr("empty")));
  const Scratch scratch;
  EXPECT_THAT(refusal(read_file(tone(scratch, 16000, 1, 0))), HasSubstr("holds no samples"));
}

TEST_F(Refused, WhatIsNoAudio) {
  EXPECT_THAT(refusal("PK this is no sound at all, but long enough to look at"),
              HasSubstr("give wav, flac, ogg or mp3"));
  std::string damaged = file("flac");
  for (size_t i = 4; i < 40; ++i) damaged[i] = '?';
  EXPECT_THAT(refusal(damaged), HasSubstr("speech"));
}

TEST_F(Refused, TruncatedFiles) {
  for (const char* suffix : {"wav", "flac", "ogg"}) {
    const std::string whole = file(suffix);
    EXPECT_THAT(refusal(whole.substr(0, whole.size() * 2 / 3)),
                AllOf(HasSubstr("rows.jsonl:7: speech"), HasSubstr("truncated")))
        << suffix;
  }
}

TEST_F(Refused, ManyChannelsAndLongAudio) {
  const Scratch scratch;
  EXPECT_THAT(refusal(read_file(tone(scratch, 16000, 6, 0.1))),
              AllOf(HasSubstr("6 channels"), HasSubstr("mix it down")));
  EXPECT_THAT(refusal(read_file(tone(scratch, 8000, 1, 30.5))),
              AllOf(HasSubstr("lasts 30.5 s"), HasSubstr("30 s")));
  EXPECT_EQ(audio_length(read_file(tone(scratch, 8000, 1, 30)), "tone", {}), 480000);
}

TEST_F(Refused, SamplesThatAreNoNumbers) {
  const Scratch scratch;
  std::string bytes = read_file(tone(scratch, 16000, 1, 0.1));
  const float bad = std::nanf("");
  bytes.replace(bytes.size() - sizeof bad, sizeof bad, reinterpret_cast<const char*>(&bad),
                sizeof bad);
  EXPECT_THAT(refusal(bytes), HasSubstr("no finite numbers"));
}

}  // namespace
}  // namespace aerie::testing
