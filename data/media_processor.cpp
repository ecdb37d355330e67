#include "data/media_processor.h"

#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/error.h"
#include "common/files.h"
#include "data/audio_processor.h"
#include "data/conversation.h"
#include "data/image_processor.h"
#include "data/json.h"

namespace aerie {
namespace {

/// The id under the first of `keys` that config.json has; -1: none.
int32_t placeholder_of(const Json& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (config.contains(key) && config.at(key).is_number_integer()) return config.at(key);
  }
  return -1;
}

/// Settings of a kind of media and the file they stand in: preprocessor_config.json, where
/// `type_key` names the class, or a section of transformers 5's processor_config.json. Null: none.
std::pair<Json, std::string> read_settings_of(const fs::path& model_dir, const char* type_key,
                                              const char* section) {
  const fs::path file = model_dir / "preprocessor_config.json",
                 newer = model_dir / "processor_config.json";
  Json settings = read_json_object(file);
  if (settings.contains(type_key)) return {std::move(settings), file.string()};
  const Json processor = read_json_object(newer);
  if (processor.contains(section)) return {processor.at(section), newer.string()};
  return {Json(nullptr), ""};
}

std::unique_ptr<MediaProcessor> read_image_processor(const fs::path& model_dir,
                                                     const Json& config) {
  const int32_t token = placeholder_of(config, {"image_token_id", "image_token_index"});
  if (token < 0) return nullptr;
  const auto [settings, where] =
      read_settings_of(model_dir, "image_processor_type", "image_processor");
  return settings.is_null() ? nullptr : make_image_processor(settings, token, where);
}

std::unique_ptr<MediaProcessor> read_audio_processor(const fs::path& model_dir,
                                                     const Json& config) {
  const int32_t token = placeholder_of(config, {"audio_token_id", "audio_token_index"});
  if (token < 0) return nullptr;
  const auto [settings, where] =
      read_settings_of(model_dir, "feature_extractor_type", "feature_extractor");
  return settings.is_null() ? nullptr : make_audio_processor(settings, token, where);
}

void check_placeholders(bool equal, MediaKind kind) {
  if (equal) return;
  throw RowError("media and placeholders differ",
                 fmt::format("the rendered text has not one placeholder for each {} part: a text "
                             "must not spell the placeholder, and the template must print it",
                             name_of(kind)));
}

/// What a token stands for, if it is a placeholder.
std::optional<MediaKind> kind_of(int32_t id, const MediaProcessors& processors) {
  if (processors.image && processors.image->token() == id) return MediaKind::kImage;
  if (processors.audio && processors.audio->token() == id) return MediaKind::kAudio;
  return std::nullopt;
}

}  // namespace

const MediaProcessor& MediaProcessors::of(MediaKind kind) const {
  const auto& processor = kind == MediaKind::kImage ? image : audio;
  AERIE_CHECK(processor, "the target {} takes no {}: leave such rows out, or choose another target",
              target, kind == MediaKind::kImage ? "images" : "audio");
  return *processor;
}

std::string MediaProcessors::fingerprint() const {
  std::string parts;
  for (const auto& processor : {std::cref(image), std::cref(audio)}) {
    if (processor.get()) parts += processor.get()->fingerprint();
  }
  return parts;
}

const MediaProcessors& no_media() {
  static const MediaProcessors none;
  return none;
}

MediaProcessors read_media_processors(const fs::path& model_dir) {
  const Json config = read_json_object(model_dir / "config.json");
  MediaProcessors processors;
  processors.target = model_dir.string();
  processors.image = read_image_processor(model_dir, config);
  processors.audio = read_audio_processor(model_dir, config);
  return processors;
}

int64_t MediaPlaces::expanded(int64_t index) const {
  int64_t shift = 0;
  for (size_t i = 0; i < placeholder.size(); ++i) {
    if (static_cast<int64_t>(placeholder[i]) < index) shift += spans[i].count - 1;
  }
  return index + shift;
}

MediaPlaces place_media(const std::vector<int32_t>& ids, const std::vector<MediaRef>& media,
                        const MediaProcessors& processors) {
  MediaPlaces places;
  try {
    for (const MediaRef& piece : media) processors.of(piece.kind);
    std::array<std::deque<MediaRef>, 2> waiting;
    for (const MediaRef& piece : media) waiting[static_cast<size_t>(piece.kind)].push_back(piece);
    int64_t shift = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::optional<MediaKind> kind = kind_of(ids[i], processors);
      if (!kind) continue;
      auto& pieces = waiting[static_cast<size_t>(*kind)];
      check_placeholders(!pieces.empty(), *kind);
      MediaSpan span{*kind, pieces.front().source, static_cast<int64_t>(i) + shift, 0, {}, 0};
      pieces.pop_front();
      span.grid = processors.of(*kind).measure(span.source);
      span.edge = processors.of(*kind).edge();
      span.count = span.tokens();
      shift += span.count - 1;
      places.spans.push_back(std::move(span));
      places.placeholder.push_back(i);
    }
    for (const MediaKind kind : {MediaKind::kImage, MediaKind::kAudio})
      check_placeholders(waiting[static_cast<size_t>(kind)].empty(), kind);
  } catch (const RowError&) {
    throw;
  } catch (const Error& e) {
    throw RowError("media cannot be used", e.what());
  }
  return places;
}

}  // namespace aerie
