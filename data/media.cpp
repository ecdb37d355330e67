#include "data/media.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/error.h"
#include "common/files.h"
#include "data/base64.h"
#include "data/conversation.h"

namespace aerie {
namespace {

constexpr std::string_view kDataUrl = "data:";
constexpr std::string_view kFileUrl = "file://";

std::optional<MediaKind> kind_of(const std::string& type) {
  if (type == "image" || type == "image_url") return MediaKind::kImage;
  if (type == "audio" || type == "audio_url") return MediaKind::kAudio;
  return std::nullopt;
}

/// The path or URL of a part, wherever the writer of the row put it; "" if nowhere.
std::string source_of(const Json& part, const char* kind) {
  const std::string nested = std::string(kind) + "_url";
  for (const std::string& key :
       {std::string(kind), std::string("path"), std::string("url"), nested}) {
    if (!part.contains(key)) continue;
    const Json& value = part.at(key);
    if (value.is_string()) return value;
    if (value.is_object() && value.contains("url") && value.at("url").is_string())
      return value.at("url");
  }
  return "";
}

std::string resolve(std::string source, const fs::path& directory) {
  if (source.starts_with(kDataUrl)) return source;
  if (source.starts_with(kFileUrl)) source.erase(0, kFileUrl.size());
  if (source.find("://") != std::string::npos)
    throw RowError("media is a remote URL",
                   fmt::format("{}: nothing is downloaded; fetch the file and give its path",
                               source.substr(0, 200)));
  return (directory / source).lexically_normal().string();
}

Json resolve_part(const Json& part, const fs::path& directory) {
  const std::string type = part.is_object() ? part.value("type", "") : "";
  if (type == "text") return part;
  const std::optional<MediaKind> kind = kind_of(type);
  if (!kind)
    throw RowError("unknown content part",
                   fmt::format("a part is of type \"{}\" (text, image and audio are known)", type));
  const std::string source = source_of(part, name_of(*kind));
  if (source.empty())
    throw RowError("media without a path",
                   fmt::format("a part of type \"{}\" names no file: give \"path\"", type));
  return {{"type", name_of(*kind)}, {name_of(*kind), resolve(source, directory)}};
}

}  // namespace

const char* name_of(MediaKind kind) { return kind == MediaKind::kImage ? "image" : "audio"; }

void resolve_media(Json& messages, const fs::path& directory) {
  for (Json& message : messages) {
    Json& content = message.at("content");
    if (!content.is_array()) continue;
    for (Json& part : content) part = resolve_part(part, directory);
  }
}

std::vector<MediaRef> media_of(const Json& messages) {
  std::vector<MediaRef> media;
  for (const Json& message : messages) {
    if (!message.contains("content") || !message.at("content").is_array()) continue;
    for (const Json& part : message.at("content")) {
      const std::optional<MediaKind> kind = kind_of(part.value("type", ""));
      if (kind) media.push_back({*kind, part.at(name_of(*kind))});
    }
  }
  return media;
}

std::vector<MediaSpan> media_before(std::vector<MediaSpan> spans, int64_t size) {
  std::erase_if(spans, [size](const MediaSpan& span) { return span.begin >= size; });
  for (MediaSpan& span : spans) span.count = std::min(span.count, size - span.begin);
  return spans;
}

std::string read_media(const std::string& source) {
  if (!source.starts_with(kDataUrl)) return read_file(source);
  const size_t comma = source.find(',');
  const bool base64 = comma != std::string::npos && source.substr(0, comma).ends_with(";base64");
  AERIE_CHECK(base64, "{}: a data URL must be base64 (data:image/png;base64,...)",
              describe_media(source));
  const std::optional<std::string> bytes =
      decode_base64(std::string_view(source).substr(comma + 1));
  AERIE_CHECK(bytes, "{}: the data URL is not valid base64: encode it again",
              describe_media(source));
  return *bytes;
}

std::string describe_media(const std::string& source) {
  constexpr size_t kShown = 48;
  if (!source.starts_with(kDataUrl) || source.size() <= kShown) return source;
  return source.substr(0, kShown) + "...";
}

std::string media_text(std::span<const MediaSpan> spans) {
  if (spans.empty()) return "";
  Json list = Json::array();
  for (const MediaSpan& span : spans) {
    list.push_back({{"kind", name_of(span.kind)},
                    {"source", span.source},
                    {"begin", span.begin},
                    {"count", span.count},
                    {"grid", span.grid},
                    {"edge", span.edge}});
  }
  return list.dump();
}

std::vector<MediaSpan> parse_media_text(std::string_view text) {
  std::vector<MediaSpan> spans;
  if (text.empty()) return spans;
  try {
    for (const Json& entry : Json::parse(text)) {
      const std::optional<MediaKind> kind = kind_of(entry.at("kind"));
      AERIE_CHECK(kind, "a stored piece of media is of kind {}: prepare the data again",
                  entry.at("kind").dump());
      spans.push_back({*kind, entry.at("source"), entry.at("begin"), entry.at("count"),
                       entry.at("grid"), entry.value("edge", int64_t{0})});
    }
  } catch (const Json::exception& e) {
    fail("the stored media of a document cannot be read ({}): prepare the data again", e.what());
  }
  return spans;
}

}  // namespace aerie
