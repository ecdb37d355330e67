// The bytes of one token, where its text alone is no UTF-8.
#include <array>
#include <charconv>
#include <optional>

#include "data/tokenizer.h"

namespace aerie {
namespace {

/// GPT-2's alphabet, by character: printable Latin-1 stands for itself, other bytes for U+0100 and
/// on, in order.
const std::array<int, 0x144>& byte_of_character() {
  static const std::array<int, 0x144> table = [] {
    std::array<int, 0x144> bytes;
    bytes.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      bytes[itself ? byte : next++] = byte;
    }
    return bytes;
  }();
  return table;
}

/// Of a byte-level vocabulary's spelling; nothing where a character is not of the alphabet.
std::optional<std::string> byte_level(const std::string& spelling) {
  std::string bytes;
  for (size_t i = 0; i < spelling.size(); ++i) {
    unsigned character = static_cast<unsigned char>(spelling[i]);
    if (character >= 0x80) {  // the alphabet's other characters have two bytes
      if ((character & 0xE0) != 0xC0 || i + 1 == spelling.size()) return std::nullopt;
      character = (character & 0x1F) << 6 | (static_cast<unsigned char>(spelling[++i]) & 0x3F);
    }
    if (character >= byte_of_character().size() || byte_of_character()[character] < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(byte_of_character()[character]);
  }
  return bytes;
}

/// Of "<0x0A>", as byte-fallback spells a byte.
std::optional<std::string> fallback_byte(const std::string& spelling) {
  unsigned byte = 0;
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling.back() != '>') {
    return std::nullopt;
  }
  const char* end = spelling.data() + 5;
  if (std::from_chars(spelling.data() + 3, end, byte, 16).ptr != end) return std::nullopt;
  return std::string(1, static_cast<char>(byte));
}

}  // namespace

std::string Tokenizer::token_bytes(int32_t id) const {
  const std::string spelling = id_to_token(id);
  const std::string text = decode({&id, 1}, false);
  if (text.find("\uFFFD") == std::string::npos) return text;
  if (const auto byte = fallback_byte(spelling)) return *byte;
  return byte_level(spelling).value_or(text);
}

}  // namespace aerie
