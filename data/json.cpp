#include "data/json.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kLargestFast = size_t{4} << 20;  // a thread keeps memory for as long a text

Json value_of(dom::element element);

Json array_of(dom::array elements) {
  Json out = Json::array();
  out.get_ref<Json::array_t&>().reserve(elements.size());
  for (const dom::element element : elements) out.push_back(value_of(element));
  return out;
}

Json object_of(dom::object members) {
  Json out = Json::object();
  out.get_ref<Json::object_t&>().reserve(members.size());
  for (const auto& [key, value] : members) out[std::string(key)] = value_of(value);
  return out;
}

Json value_of(dom::element element) {
  switch (element.type()) {
    case dom::element_type::ARRAY:
      return array_of(element);
    case dom::element_type::OBJECT:
      return object_of(element);
    case dom::element_type::STRING:
      return std::string_view(element);
    case dom::element_type::BOOL:
      return bool(element);
    case dom::element_type::DOUBLE:
      return double(element);
    case dom::element_type::UINT64:
      return uint64_t(element);
    case dom::element_type::INT64:
      if (int64_t(element) < 0) return int64_t(element);
      return uint64_t(element);
    case dom::element_type::NULL_VALUE:
      break;
  }
  return nullptr;
}

bool is_literal(char c) { return c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20; }

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
    case '\\':
      out += {'\\', c};
      return;
    case '\n':
      out += "\\n";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
  }
}

}  // namespace

Json read_json_object(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  Json json = Json::parse(read_file(file), nullptr, false);
  AERIE_CHECK(json.is_object(), "{} holds no JSON object: restore the file", file.string());
  return json;
}

Json parse_json(std::string_view text) {
  thread_local dom::parser parser(kLargestFast);
  dom::element root;
  // What simdjson does not take (errors, very long texts, integers beyond 64 bits) goes the long
  // way, which knows what to say.
  if (parser.parse(text.data(), text.size()).get(root) != simdjson::SUCCESS)
    return Json::parse(text);
  return value_of(root);
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && is_literal(text[end])) ++end;
    out += text.substr(begin, end - begin);
    if (end < text.size()) append_escaped(out, text[end++]);
    begin = end;
  }
  out += '"';
}

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

}  // namespace aerie
