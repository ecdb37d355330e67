// Images and audio in conversations: which files they are, and which tokens stand for them.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/json.h"

namespace aerie {

enum class MediaKind { kImage, kAudio };
/// "image" or "audio"
const char* name_of(MediaKind kind);

/// A file (its path), or a base64 data URL.
struct MediaRef {
  MediaKind kind = MediaKind::kImage;
  std::string source;
};

/// The placeholder tokens that stand for one piece of media in a document or a pack.
struct MediaSpan {
  MediaKind kind = MediaKind::kImage;
  std::string source;
  int64_t begin = 0, count = 0;  ///< tokens [begin, begin + count)
  /// How they are laid out: time, rows, columns. Their product is the number that the file makes,
  /// of which `count` are there (fewer where the document was cut). Audio: {n, 1, 1}.
  std::array<int64_t, 3> grid{0, 1, 1};
  int64_t edge = 0;  ///< more of them on either side of the grid: HunyuanOCR marks begin and end

  int64_t tokens() const { return grid[0] * grid[1] * grid[2] + 2 * edge; }
};

/// Token ids, and the media that some of them stand for.
struct MediaTokens {
  std::vector<int32_t> ids;
  std::vector<MediaSpan> media;  ///< by `begin`
};

/// Makes every image and audio part of the messages {"type": "image", "image": source} (or
/// "audio"), with relative paths taken from `directory`. Understood are the keys image, audio,
/// path, url and the objects image_url and audio_url. Throws RowError for a part without a source,
/// one of another modality, and for a remote URL: nothing is downloaded.
void resolve_media(Json& messages, const std::filesystem::path& directory);

/// The media of resolved messages, in order.
std::vector<MediaRef> media_of(const Json& messages);

/// The spans that begin before `size`, cut to it.
std::vector<MediaSpan> media_before(std::vector<MediaSpan> spans, int64_t size);

/// The bytes of a file or a data URL. Throws Error naming the file.
std::string read_media(const std::string& source);
/// A source as messages show it: the path, or the beginning of a data URL.
std::string describe_media(const std::string& source);

/// Spans as one line of text, and back.
std::string media_text(std::span<const MediaSpan> spans);
std::vector<MediaSpan> parse_media_text(std::string_view text);

}  // namespace aerie
