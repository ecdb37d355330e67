// What a target's own preprocessor makes of a media file: how many tokens stand for it, and the
// features that its tower reads.
#pragma once
#include <torch/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/media.h"

namespace aerie {

using MediaGrid = std::array<int64_t, 3>;  ///< MediaSpan::grid

struct MediaFeatures {
  at::Tensor values;  ///< f32, on the CPU; its shape is the processor's
  MediaGrid grid;
};

/// Safe to use from several threads at once.
class MediaProcessor {
 public:
  virtual ~MediaProcessor() = default;
  /// The placeholder that the chat template writes, once a piece.
  virtual int32_t token() const = 0;
  /// The layout of the piece's tokens. Decodes it all: a damaged file is found before a model is
  /// loaded, not in the midst of training. Throws Error naming the file.
  virtual MediaGrid measure(const std::string& source) const = 0;
  /// Tokens on either side of that layout that stand for a piece's begin and end.
  virtual int64_t edge() const { return 0; }
  /// What the tower reads. Throws Error naming the file.
  virtual MediaFeatures load(const std::string& source) const = 0;
  /// Hash of all that decides the above.
  virtual std::string fingerprint() const = 0;
};

/// The media that a target takes.
struct MediaProcessors {
  std::unique_ptr<MediaProcessor> image, audio;  ///< null: the target takes none
  std::string target = "of this run";            ///< for messages: its directory

  /// Throws Error where the target does not take that kind.
  const MediaProcessor& of(MediaKind kind) const;
  bool any() const { return image || audio; }
  std::string fingerprint() const;
};

/// Those of a target of text only.
const MediaProcessors& no_media();

/// From the placeholder ids of DIR/config.json and the settings of preprocessor_config.json (or
/// processor_config.json of transformers 5). A text model gives none. Throws Error for a
/// preprocessor that is not known.
MediaProcessors read_media_processors(const std::filesystem::path& model_dir);

/// Where the media of a rendered conversation stand.
struct MediaPlaces {
  std::vector<MediaSpan> spans;     ///< `begin` counts expanded tokens
  std::vector<size_t> placeholder;  ///< [media] index of each placeholder as the template wrote it

  /// Values of rendered tokens -> of expanded ones: a placeholder's is repeated.
  template <typename T>
  std::vector<T> expand(const std::vector<T>& values) const;
  /// The place of a rendered token among the expanded ones.
  int64_t expanded(int64_t index) const;
};

/// The k-th placeholder of a kind in `ids` stands for the k-th piece of that kind. Throws RowError:
/// a kind that the target does not take, a file that cannot be read, or placeholders that are more
/// or fewer than the pieces (a text that spells one).
MediaPlaces place_media(const std::vector<int32_t>& ids, const std::vector<MediaRef>& media,
                        const MediaProcessors& processors);

template <typename T>
std::vector<T> MediaPlaces::expand(const std::vector<T>& values) const {
  std::vector<T> out;
  size_t next = 0;
  for (size_t i = 0; i < placeholder.size(); ++i) {
    const auto at = static_cast<std::ptrdiff_t>(placeholder[i]);
    out.insert(out.end(), values.begin() + static_cast<std::ptrdiff_t>(next), values.begin() + at);
    out.insert(out.end(), static_cast<size_t>(spans[i].count), values[placeholder[i]]);
    next = placeholder[i] + 1;
  }
  out.insert(out.end(), values.begin() + static_cast<std::ptrdiff_t>(next), values.end());
  return out;
}

}  // namespace aerie
