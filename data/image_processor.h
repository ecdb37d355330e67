// Images as the towers of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and HunyuanOCR read them.
#pragma once
#include "data/media_processor.h"

namespace aerie {

/// preprocessor_config.json of Qwen2VLImageProcessor or HunYuanVLImageProcessor.
struct PatchSettings {
  int64_t patch = 0, temporal_patch = 0, merge = 0;  ///< pixels, frames, patches a side of a token
  int64_t min_pixels = 0, max_pixels = 0;            ///< of the resized image
  std::array<double, 3> mean{}, std{};               ///< of values 0..1
  /// HunyuanOCR: patches stand row by row, not token by token, and beside those of its grid an
  /// image has a token behind each row and one on either side.
  bool marked_rows = false;
};

/// The size that an image is scaled to: both sides multiples of patch * merge, the number of pixels
/// within the limits, the proportions nearly kept ("smart resize"). -> {height, width}. Throws
/// Error for proportions beyond 200 : 1.
std::array<int64_t, 2> patch_image_size(int64_t height, int64_t width,
                                        const PatchSettings& settings);

/// x [3,H,W] u8 of such a size -> normalised patches [rows * columns, 3 * temporal_patch * patch^2]
/// f32, the patches of a token side by side (or row by row: PatchSettings::marked_rows); a still
/// image fills every frame of its patches.
at::Tensor pack_patches(const at::Tensor& x, const PatchSettings& settings);

/// `settings`: the JSON of the preprocessor; `where` its file; `token` the placeholder. Throws
/// Error for an unknown image_processor_type or a missing or unusual setting.
std::unique_ptr<MediaProcessor> make_image_processor(const Json& settings, int32_t token,
                                                     const std::string& where);

}  // namespace aerie
