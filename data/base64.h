// Base64 (RFC 4648), as data URLs hold it.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace aerie {

/// Nothing for text that is not base64; padding may be missing.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace aerie
