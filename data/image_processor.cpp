#include "data/image_processor.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error.h"
#include "common/files.h"
#include "data/image.h"
#include "data/setting.h"

namespace aerie {
namespace {

const std::set<std::string> kPatchTypes = {"HunYuanVLImageProcessor", "Qwen2VLImageProcessor",
                                           "Qwen2VLImageProcessorFast"};
constexpr int kBicubic = 3;  // PIL.Image.BICUBIC
constexpr double kMaxProportion = 200;

/// Values of a channel as f32, for each of the 256 bytes. (x - 255 mean) / (255 std): the order in
/// which transformers' fast processors fuse scaling and normalisation.
std::array<float, 256> normalised_bytes(double mean, double std) {
  std::array<float, 256> values{};
  const auto shift = static_cast<float>(mean * 255), scale = static_cast<float>(std * 255);
  for (size_t i = 0; i < values.size(); ++i) values[i] = (static_cast<float>(i) - shift) / scale;
  return values;
}

/// A limit of pixels: min_pixels and max_pixels of transformers 4, or an edge of "size".
int64_t pixel_limit(const Json& settings, const char* key, const char* edge,
                    const std::string& where) {
  if (settings.contains(key) && !settings.at(key).is_null())
    return setting<int64_t>(settings, key, where);
  return setting<int64_t>(setting<Json>(settings, "size", where), edge, where + ": size");
}

void refuse_unusual(const Json& settings, bool states_filter, const std::string& where) {
  for (const char* key : {"do_resize", "do_rescale", "do_normalize"}) {
    AERIE_CHECK(settings.value(key, true), "{}: \"{}\" is false, which is not supported", where,
                key);
  }
  AERIE_CHECK(!states_filter || settings.value("resample", kBicubic) == kBicubic,
              "{}: \"resample\" is {}, and only {} (bicubic) is supported", where,
              settings.at("resample").dump(), kBicubic);
}

PatchSettings read_settings(const Json& settings, const std::string& where) {
  PatchSettings s;
  s.marked_rows = settings.value("image_processor_type", "") == "HunYuanVLImageProcessor";
  // HunyuanOCR's file names another filter than the bicubic one that its processor always takes.
  refuse_unusual(settings, !s.marked_rows, where);
  s.patch = setting<int64_t>(settings, "patch_size", where);
  s.temporal_patch = setting<int64_t>(settings, "temporal_patch_size", where);
  s.merge = setting<int64_t>(settings, "merge_size", where);
  s.min_pixels = pixel_limit(settings, "min_pixels", "shortest_edge", where);
  s.max_pixels = pixel_limit(settings, "max_pixels", "longest_edge", where);
  s.mean = setting<std::array<double, 3>>(settings, "image_mean", where);
  s.std = setting<std::array<double, 3>>(settings, "image_std", where);
  AERIE_CHECK(s.patch > 0 && s.temporal_patch > 0 && s.merge > 0 && s.min_pixels > 0 &&
                  s.max_pixels >= s.min_pixels,
              "{}: patch_size, temporal_patch_size, merge_size and the pixel limits must be above "
              "0, and the largest number of pixels not below the smallest",
              where);
  return s;
}

class PatchProcessor final : public MediaProcessor {
 public:
  PatchProcessor(PatchSettings settings, int32_t token, std::string fingerprint)
      : settings_(settings), token_(token), fingerprint_(std::move(fingerprint)) {}

  int32_t token() const override { return token_; }
  MediaGrid measure(const std::string& source) const override {
    return grid_of(scaled_size(decode(source), source));
  }
  MediaFeatures load(const std::string& source) const override {
    at::Tensor image = decode(source);
    const std::array<int64_t, 2> size = scaled_size(image, source);
    if (image.sizes().slice(1) != at::IntArrayRef(size))
      image = at::_upsample_bicubic2d_aa(image.unsqueeze(0), size, false)[0];
    return {pack_patches(image, settings_), grid_of(size)};
  }
  int64_t edge() const override { return settings_.marked_rows ? 1 : 0; }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  static at::Tensor decode(const std::string& source) {
    return decode_image(read_media(source), describe_media(source));
  }
  MediaGrid grid_of(std::array<int64_t, 2> size) const {
    const int64_t side = settings_.patch * settings_.merge;
    return {1, size[0] / side, size[1] / side + (settings_.marked_rows ? 1 : 0)};
  }
  std::array<int64_t, 2> scaled_size(const at::Tensor& image, const std::string& source) const {
    try {
      return patch_image_size(image.size(1), image.size(2), settings_);
    } catch (const Error& e) {
      fail("{}: {}", describe_media(source), e.what());
    }
  }

  PatchSettings settings_;
  int32_t token_;
  std::string fingerprint_;
};

}  // namespace

std::array<int64_t, 2> patch_image_size(int64_t height, int64_t width, const PatchSettings& s) {
  const auto h = static_cast<double>(height), w = static_cast<double>(width);
  AERIE_CHECK(std::max(h, w) / std::min(h, w) <= kMaxProportion,
              "{} x {} pixels are more than {} : 1: crop the image", width, height, kMaxProportion);
  const auto factor = static_cast<double>(s.patch * s.merge);
  const auto min_pixels = static_cast<double>(s.min_pixels),
             max_pixels = static_cast<double>(s.max_pixels);
  double rows = std::nearbyint(h / factor) * factor, columns = std::nearbyint(w / factor) * factor;
  if (rows * columns > max_pixels) {
    const double shrink = std::sqrt(h * w / max_pixels);
    rows = std::max(factor, std::floor(h / shrink / factor) * factor);
    columns = std::max(factor, std::floor(w / shrink / factor) * factor);
  } else if (rows * columns < min_pixels) {
    const double grow = std::sqrt(min_pixels / (h * w));
    rows = std::ceil(h * grow / factor) * factor;
    columns = std::ceil(w * grow / factor) * factor;
  }
  return {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
}

at::Tensor pack_patches(const at::Tensor& x, const PatchSettings& s) {
  const at::Tensor image = x.contiguous();
  const int64_t height = image.size(1), width = image.size(2), p = s.patch;
  const int64_t m = s.marked_rows ? 1 : s.merge;
  const int64_t rows = height / p, columns = width / p, frame = p * p;
  at::Tensor out = at::empty({rows * columns, 3 * s.temporal_patch * frame}, at::kFloat);
  const uint8_t* pixels = image.const_data_ptr<uint8_t>();
  float* to = out.mutable_data_ptr<float>();
  std::array<std::array<float, 256>, 3> values;
  for (size_t c = 0; c < 3; ++c) values[c] = normalised_bytes(s.mean[c], s.std[c]);
  const auto pack = [&](int64_t row, int64_t column) {
    for (int64_t c = 0; c < 3; ++c) {
      const uint8_t* from = pixels + (c * height + row * p) * width + column * p;
      const std::array<float, 256>& value = values[static_cast<size_t>(c)];
      for (int64_t y = 0; y < p; ++y) {
        for (int64_t i = 0; i < p; ++i) to[y * p + i] = value[from[y * width + i]];
      }
      for (int64_t t = 1; t < s.temporal_patch; ++t) std::copy_n(to, frame, to + t * frame);
      to += s.temporal_patch * frame;
    }
  };
  for (int64_t token_row = 0; token_row < rows; token_row += m) {
    for (int64_t token_column = 0; token_column < columns; token_column += m) {
      for (int64_t i = 0; i < m * m; ++i) pack(token_row + i / m, token_column + i % m);
    }
  }
  return out;
}

std::unique_ptr<MediaProcessor> make_image_processor(const Json& settings, int32_t token,
                                                     const std::string& where) {
  const std::string type = settings.value("image_processor_type", "");
  AERIE_CHECK(kPatchTypes.count(type) == 1,
              "{}: image_processor_type \"{}\" is not supported; known: {}", where, type,
              fmt::join(kPatchTypes, ", "));
  return std::make_unique<PatchProcessor>(read_settings(settings, where), token,
                                          hash_hex(fmt::format("{} {}", token, settings.dump())));
}

}  // namespace aerie
