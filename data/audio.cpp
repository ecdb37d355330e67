#include "data/audio.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <sndfile.h>
#include <soxr.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "common/error.h"

namespace aerie {
namespace {

/// What libsndfile reads through: a file in memory.
struct Memory {
  std::string_view bytes;
  sf_count_t at = 0;
};

sf_count_t memory_size(void* user) {
  return static_cast<sf_count_t>(static_cast<Memory*>(user)->bytes.size());
}
sf_count_t memory_seek(sf_count_t offset, int whence, void* user) {
  auto* memory = static_cast<Memory*>(user);
  const sf_count_t from = whence == SEEK_SET   ? 0
                          : whence == SEEK_CUR ? memory->at
                                               : memory_size(user);
  memory->at = std::clamp<sf_count_t>(from + offset, 0, memory_size(user));
  return memory->at;
}
sf_count_t memory_read(void* to, sf_count_t count, void* user) {
  auto* memory = static_cast<Memory*>(user);
  const sf_count_t some = std::min(count, memory_size(user) - memory->at);
  std::memcpy(to, memory->bytes.data() + memory->at, static_cast<size_t>(some));
  memory->at += some;
  return some;
}
sf_count_t memory_write(const void*, sf_count_t, void*) { return 0; }
sf_count_t memory_tell(void* user) { return static_cast<Memory*>(user)->at; }

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

[[noreturn]] void truncated(const std::string& name, const std::string& what) {
  fail("{}: the audio is truncated: {}. Copy the file again", name, what);
}

/// libsndfile takes a wav that ends early for a shorter one.
void check_wav_is_whole(std::string_view bytes, const std::string& name) {
  if (!bytes.starts_with("RIFF") || bytes.size() < 12) return;
  const uint32_t promised = little_endian(bytes, 4);
  const bool streamed = promised == 0 || promised == 0xffffffff;  // written without a known end
  if (streamed || promised + size_t{8} <= bytes.size()) return;
  truncated(name, fmt::format("its header promises {} bytes and there are {}", promised + size_t{8},
                              bytes.size()));
}

/// An ogg file ends with a whole page that says so.
void check_ogg_is_whole(std::string_view bytes, const std::string& name) {
  if (!bytes.starts_with("OggS")) return;
  constexpr size_t kHeader = 27, kSegmentCount = 26, kFlags = 5;
  const size_t page = bytes.rfind("OggS");
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(bytes[page + at]); };
  const size_t rest = bytes.size() - page;
  bool whole = rest >= kHeader && (byte(kFlags) & 4) != 0 && rest >= kHeader + byte(kSegmentCount);
  if (whole) {
    size_t size = kHeader + byte(kSegmentCount);
    for (size_t i = 0; i < byte(kSegmentCount); ++i) size += byte(kHeader + i);
    whole = rest >= size;
  }
  if (!whole) truncated(name, "its last page is missing");
}

struct Decoded {
  std::vector<float> samples;  ///< interleaved
  int64_t frames = 0, channels = 0, rate = 0;
};

void check_header(const SF_INFO& info, const std::string& name, const AudioLimits& limits) {
  AERIE_CHECK(info.channels <= 2,
              "{}: the audio has {} channels, and 1 or 2 are supported: mix it down", name,
              info.channels);
  AERIE_CHECK(info.frames != 0, "{}: the audio is empty: it holds no samples", name);
  const double seconds = static_cast<double>(info.frames) / info.samplerate;
  const bool known = info.frames > 0 && info.frames < SF_COUNT_MAX;
  AERIE_CHECK(!known || seconds <= limits.max_seconds,
              "{}: the audio lasts {:.1f} s, and the model hears {:g} s: cut it", name, seconds,
              limits.max_seconds);
}

/// Everything that the file holds, up to a little more than the limit.
Decoded decode(std::string_view bytes, const std::string& name, const AudioLimits& limits) {
  AERIE_CHECK(!bytes.empty(), "{}: the file is empty (0 bytes)", name);
  check_wav_is_whole(bytes, name);
  check_ogg_is_whole(bytes, name);
  Memory memory{bytes};
  SF_VIRTUAL_IO io{memory_size, memory_seek, memory_read, memory_write, memory_tell};
  SF_INFO info{};
  const std::unique_ptr<SNDFILE, int (*)(SNDFILE*)> file(
      sf_open_virtual(&io, SFM_READ, &info, &memory), sf_close);
  AERIE_CHECK(file != nullptr,
              "{}: this is no audio that can be read ({}): give wav, flac, ogg or mp3", name,
              sf_strerror(nullptr));
  check_header(info, name, limits);

  Decoded result{{}, 0, info.channels, info.samplerate};
  const auto most = static_cast<int64_t>(limits.max_seconds * info.samplerate) + 1;
  result.samples.resize(static_cast<size_t>(most * info.channels));
  result.frames = sf_readf_float(file.get(), result.samples.data(), most);
  AERIE_CHECK(result.frames < most,
              "{}: the audio lasts longer than the {:g} s that the model hears: cut it", name,
              limits.max_seconds);
  const bool known = info.frames < SF_COUNT_MAX;
  if (sf_error(file.get()) != SF_ERR_NO_ERROR || (known && result.frames < info.frames)) {
    truncated(name, fmt::format("{} of {} samples can be read ({})", result.frames, info.frames,
                                sf_strerror(file.get())));
  }
  AERIE_CHECK(result.frames > 0, "{}: the audio is empty: it holds no samples", name);
  result.samples.resize(static_cast<size_t>(result.frames * info.channels));
  return result;
}

std::vector<float> mono(Decoded decoded, const std::string& name) {
  for (const float sample : decoded.samples) {
    AERIE_CHECK(std::isfinite(sample), "{}: the audio holds samples that are no finite numbers",
                name);
  }
  if (decoded.channels == 1) return std::move(decoded.samples);
  std::vector<float> mixed(static_cast<size_t>(decoded.frames));
  for (size_t i = 0; i < mixed.size(); ++i) {
    mixed[i] = (decoded.samples[2 * i] + decoded.samples[2 * i + 1]) / 2;
  }
  return mixed;
}

int64_t resampled_length(int64_t frames, int64_t rate, int64_t to) {
  return (frames * to + rate - 1) / rate;
}

}  // namespace

at::Tensor decode_audio(std::string_view bytes, const std::string& name,
                        const AudioLimits& limits) {
  Decoded decoded = decode(bytes, name, limits);
  const int64_t rate = decoded.rate, frames = decoded.frames;
  const std::vector<float> samples = mono(std::move(decoded), name);
  at::Tensor out = at::zeros({resampled_length(frames, rate, limits.rate)}, at::kFloat);
  float* to = out.mutable_data_ptr<float>();
  if (rate == limits.rate) {
    std::copy(samples.begin(), samples.end(), to);
    return out;
  }
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  size_t written = 0;
  const soxr_error_t error =
      soxr_oneshot(static_cast<double>(rate), static_cast<double>(limits.rate), 1, samples.data(),
                   samples.size(), nullptr, to, static_cast<size_t>(out.numel()), &written, nullptr,
                   &quality, nullptr);
  AERIE_CHECK(error == nullptr, "{}: cannot resample from {} to {} Hz: {}", name, rate, limits.rate,
              error);
  return out;
}

int64_t audio_length(std::string_view bytes, const std::string& name, const AudioLimits& limits) {
  const Decoded decoded = decode(bytes, name, limits);
  return resampled_length(decoded.frames, decoded.rate, limits.rate);
}

}  // namespace aerie
