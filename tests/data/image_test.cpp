// Images against Pillow and transformers' Qwen2VLImageProcessor (scripts/make_golden_vision.py),
// and what must be refused.
#include "data/image.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "data/image_processor.h"
#include "data/safetensors.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using testing::error_of;
using testing::golden_dir;
using ::testing::HasSubstr;
using testing::Scratch;

constexpr const char* kFiles[] = {"alpha.png",       "grey.jpg",  "palette.png",
                                  "progressive.jpg", "small.png", "turned.jpg"};

fs::path image_file(const std::string& name) { return golden_dir() / "images" / name; }

const SafetensorsFile& golden() {
  static const SafetensorsFile file(golden_dir() / "images.safetensors");
  return file;
}

PatchSettings settings() {
  return {14,
          2,
          2,
          56 * 56,
          28 * 28 * 6,
          {0.48145466, 0.4578275, 0.40821073},
          {0.26862954, 0.26130258, 0.27577711}};
}

Json settings_json() {
  const PatchSettings s = settings();
  return {{"image_processor_type", "Qwen2VLImageProcessor"},
          {"patch_size", s.patch},
          {"temporal_patch_size", s.temporal_patch},
          {"merge_size", s.merge},
          {"min_pixels", s.min_pixels},
          {"max_pixels", s.max_pixels},
          {"image_mean", s.mean},
          {"image_std", s.std}};
}

class ImageFile : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageFile, DecodesAsPillow) {
  const std::string name = GetParam();
  const at::Tensor pixels = decode_image(read_file(image_file(name)), name);
  EXPECT_TRUE(at::equal(pixels, golden().tensor(name + ".pixels")));
}

TEST_P(ImageFile, MakesThePatchesOfTransformers) {
  const std::string name = GetParam();
  const auto processor = make_image_processor(settings_json(), 5, "settings");
  const MediaFeatures features = processor->load(image_file(name).string());
  const at::Tensor expected = golden().tensor(name + ".patches");  // [P,3,p*p], one frame of two
  const at::Tensor patches = features.values.view({expected.size(0), 3, 2, -1});
  EXPECT_LE((patches - expected.unsqueeze(2)).abs().max().item<double>(), 1e-4);
  const int64_t* grid = golden().tensor(name + ".grid").const_data_ptr<int64_t>();
  EXPECT_EQ(features.grid, (MediaGrid{grid[0], grid[1] / 2, grid[2] / 2}));
  EXPECT_EQ(processor->measure(image_file(name).string()), features.grid);
}

INSTANTIATE_TEST_SUITE_P(Golden, ImageFile, ::testing::ValuesIn(kFiles), [](const auto& instance) {
  std::string name = instance.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(Image, TurnsUprightAsPillow) {
  const at::Tensor small = at::arange(24, at::kByte).view({2, 4, 3}).permute({2, 0, 1});
  for (int orientation = 1; orientation <= 8; ++orientation) {
    EXPECT_TRUE(at::equal(turn_upright(small, orientation),
                          golden().tensor(fmt::format("orientation.{}", orientation))))
        << orientation;
  }
}

TEST(Image, ScalesToTheSizesOfTransformers) {
  PatchSettings wide = settings();
  wide.max_pixels = 28 * 28 * 1280;
  const at::Tensor rows = golden().tensor("smart_resize");  // height, width, scaled height, width
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const int64_t* row = rows.const_data_ptr<int64_t>() + 4 * i;
    EXPECT_EQ(patch_image_size(row[0], row[1], wide), (std::array{row[2], row[3]}))
        << row[0] << " x " << row[1];
  }
}

TEST(Image, RefusesWhatItCannotDecode) {
  const std::string png = read_file(image_file("alpha.png")),
                    jpeg = read_file(image_file("grey.jpg"));
  const auto message = [](const std::string& bytes) {
    return error_of([&] { decode_image(bytes, "a.file"); });
  };
  for (const std::string& whole : {png, jpeg}) {
    EXPECT_THAT(message(whole.substr(0, whole.size() / 2)),
                AllOf(HasSubstr("a.file"), HasSubstr("damaged or truncated")));
  }
  std::string damaged = png;
  damaged[damaged.size() / 2] ^= 0x55;
  EXPECT_THAT(message(damaged), HasSubstr("damaged or truncated"));
  EXPECT_THAT(message("GIF89a..."), HasSubstr("neither a JPEG nor a PNG"));
  EXPECT_THAT(message(""), HasSubstr("the file is empty"));
}

TEST(Image, RefusesAHundredMegapixelsFromTheHeaderAlone) {
  // Signature and IHDR of 10000 x 10000 RGB pixels.
  constexpr unsigned char kHeader[] = {0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00,
                                       0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
                                       0x27, 0x10, 0x00, 0x00, 0x27, 0x10, 0x08, 0x02, 0x00,
                                       0x00, 0x00, 0x35, 0x2c, 0xf5, 0x70};
  const std::string bytes(reinterpret_cast<const char*>(kHeader), sizeof kHeader);
  EXPECT_THAT(
      error_of([&] { decode_image(bytes, "large.png"); }),
      AllOf(HasSubstr("large.png"), HasSubstr("10000 x 10000"), HasSubstr("scale it down")));
}

TEST(Image, RefusesProportionsAndSettingsByName) {
  EXPECT_THAT(error_of([] { patch_image_size(1, 201, settings()); }), HasSubstr("200 : 1"));
  Json unknown = settings_json();
  unknown["image_processor_type"] = "CLIPImageProcessor";
  EXPECT_THAT(error_of([&] { make_image_processor(unknown, 5, "p.json"); }),
              AllOf(HasSubstr("p.json"), HasSubstr("CLIPImageProcessor")));
  Json missing = settings_json();
  missing.erase("max_pixels");
  EXPECT_THAT(error_of([&] { make_image_processor(missing, 5, "p.json"); }), HasSubstr("\"size\""));
  Json nearest = settings_json();
  nearest["resample"] = 0;
  EXPECT_THAT(error_of([&] { make_image_processor(nearest, 5, "p.json"); }), HasSubstr("bicubic"));
}

}  // namespace
}  // namespace aerie
