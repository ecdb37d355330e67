#include "data/image.h"

#include <spng.h>
#include <turbojpeg.h>

#include <memory>

#include "common/error.h"

namespace aerie {
namespace {

constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kJpegSignature = "\xff\xd8\xff";

void check_size(int64_t height, int64_t width, const std::string& name) {
  AERIE_CHECK(height * width <= kMaxPixels,
              "{}: {} x {} pixels; images of more than {} pixels are refused because decoding one "
              "takes hundreds of megabytes: scale it down",
              name, width, height, kMaxPixels);
}

/// Interleaved rows [H,W,3] as planes, turned upright.
at::Tensor finish(const at::Tensor& pixels, int orientation) {
  return turn_upright(pixels.permute({2, 0, 1}), orientation);
}

// ---- JPEG ----

/// A big-endian number of two bytes.
size_t word_at(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]) << 8 | static_cast<uint8_t>(bytes[at + 1]);
}

/// The TIFF block of the EXIF segment; empty if there is none before the picture.
std::string_view jpeg_exif(std::string_view bytes) {
  constexpr std::string_view kHeader("Exif\0\0", 6);
  size_t at = 2;
  while (at + 4 <= bytes.size() && bytes[at] == '\xff') {
    const auto marker = static_cast<uint8_t>(bytes[at + 1]);
    if (marker == 0xda || marker == 0xd9) break;  // the picture, the end
    const std::string_view segment = bytes.substr(at + 4, word_at(bytes, at + 2) - 2);
    if (marker == 0xe1 && segment.starts_with(kHeader)) return segment.substr(kHeader.size());
    at += 2 + word_at(bytes, at + 2);
  }
  return {};
}

struct CloseJpeg {
  void operator()(void* handle) const { tjDestroy(handle); }
};

at::Tensor decode_jpeg(std::string_view bytes, const std::string& name) {
  const std::unique_ptr<void, CloseJpeg> decoder(tjInitDecompress());
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto refuse = [&] {
    fail("{}: the JPEG file is damaged or truncated ({}): fetch it again", name,
         tjGetErrorStr2(decoder.get()));
  };
  int width = 0, height = 0, subsampling = 0, colours = 0;
  if (tjDecompressHeader3(decoder.get(), data, bytes.size(), &width, &height, &subsampling,
                          &colours) != 0) {
    refuse();
  }
  check_size(height, width, name);
  AERIE_CHECK(colours != TJCS_CMYK && colours != TJCS_YCCK,
              "{}: a CMYK JPEG is not supported: convert it to RGB", name);
  at::Tensor pixels = at::empty({height, width, 3}, at::kByte);
  // The accurate transform and smooth upsampling are the library's defaults, and Pillow's.
  if (tjDecompress2(decoder.get(), data, bytes.size(), pixels.mutable_data_ptr<uint8_t>(), width, 0,
                    height, TJPF_RGB, 0) != 0) {
    refuse();
  }
  return finish(pixels, exif_orientation(jpeg_exif(bytes)));
}

// ---- PNG ----

struct ClosePng {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};

at::Tensor decode_png(std::string_view bytes, const std::string& name) {
  const std::unique_ptr<spng_ctx, ClosePng> context(spng_ctx_new(0));
  const auto check = [&](int status) {
    AERIE_CHECK(status == 0, "{}: the PNG file is damaged or truncated ({}): fetch it again", name,
                spng_strerror(status));
  };
  check(spng_set_png_buffer(context.get(), bytes.data(), bytes.size()));
  spng_ihdr header{};
  check(spng_get_ihdr(context.get(), &header));
  check_size(header.height, header.width, name);
  at::Tensor pixels = at::empty({header.height, header.width, 3}, at::kByte);
  check(spng_decode_image(context.get(), pixels.mutable_data_ptr(), pixels.nbytes(), SPNG_FMT_RGB8,
                          0));
  spng_exif exif{};
  const bool has_exif = spng_get_exif(context.get(), &exif) == 0;
  return finish(pixels, has_exif ? exif_orientation({exif.data, exif.length}) : 1);
}

}  // namespace

at::Tensor decode_image(std::string_view bytes, const std::string& name) {
  AERIE_CHECK(!bytes.empty(), "{}: the file is empty: fetch it again", name);
  if (bytes.starts_with(kPngSignature)) return decode_png(bytes, name);
  AERIE_CHECK(bytes.starts_with(kJpegSignature),
              "{}: neither a JPEG nor a PNG file: convert it to one of these", name);
  return decode_jpeg(bytes, name);
}

int exif_orientation(std::string_view tiff) {
  constexpr uint32_t kOrientation = 0x0112;
  constexpr size_t kHeader = 8, kEntry = 12;
  if (tiff.size() < kHeader) return 1;
  const bool little = tiff.starts_with("II");
  const auto number = [&](size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes && at + i < tiff.size(); ++i) {
      const uint32_t byte = static_cast<uint8_t>(tiff[at + (little ? bytes - 1 - i : i)]);
      value = value << 8 | byte;
    }
    return value;
  };
  const size_t directory = number(4, 4);
  if (directory + 2 > tiff.size()) return 1;
  const size_t entries = number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = directory + 2 + i * kEntry;
    if (at + kEntry > tiff.size()) return 1;
    if (number(at, 2) != kOrientation) continue;
    const uint32_t value = number(at + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

at::Tensor turn_upright(const at::Tensor& x, int orientation) {
  constexpr int kFirstTurned = 5;  // from here on rows and columns are exchanged
  at::Tensor turned = orientation >= kFirstTurned ? x.transpose(1, 2) : x;
  switch (orientation) {
    case 2:
    case 6:
      return turned.flip(2);
    case 3:
    case 7:
      return turned.flip({1, 2});
    case 4:
    case 8:
      return turned.flip(1);
    default:
      return turned;
  }
}

}  // namespace aerie
