// Fields of a JSON object, read with their type and range; null counts as not there.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "decoding/api_error.h"

namespace aerie {

class ApiFields {
 public:
  /// `body` outlives this. `path`: what stands before names in messages ("stream_options.").
  ApiFields(const Json& body, std::string path) : body_(body), path_(std::move(path)) {}

  /// Null if the field is not there.
  const Json* find(const char* name) const;
  bool flag(const char* name, bool otherwise) const;
  double number(const char* name, double otherwise, double low, double high) const;
  int64_t integer(const char* name, int64_t otherwise, int64_t low, int64_t high) const;
  std::string text(const char* name, const std::string& otherwise) const;
  /// A string, or a list of strings.
  std::vector<std::string> texts(const char* name) const;
  std::vector<int64_t> integers(const char* name) const;
  /// Throws if the field is there with another value than `harmless`.
  void unsupported(const char* name, const Json& harmless, const char* why) const;

  [[noreturn]] void wrong(const char* name, const std::string& why) const;

 private:
  const Json& body_;
  std::string path_;
};

}  // namespace aerie
