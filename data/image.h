// Image files as pixels.
#pragma once
#include <torch/types.h>

#include <string>
#include <string_view>

namespace aerie {

/// Decodes a JPEG or PNG file: [3,H,W] u8, RGB, turned upright as its EXIF orientation says; an
/// alpha channel is dropped, grey and palettes become RGB. `name` stands in messages. Throws Error
/// for other formats, damaged or truncated files, CMYK, and more than kMaxPixels pixels.
at::Tensor decode_image(std::string_view bytes, const std::string& name);

/// Decoded images of this size take 270 MB; Pillow draws its line here too.
constexpr int64_t kMaxPixels = 89478485;

/// Orientation 1..8 out of a TIFF block, as EXIF holds it; 1 if it does not say.
int exif_orientation(std::string_view tiff);

/// x [3,H,W] stored in orientation 1..8 -> upright.
at::Tensor turn_upright(const at::Tensor& x, int orientation);

}  // namespace aerie
