#include "decoding/api_fields.h"

#include <cmath>

namespace aerie {

namespace {

const char* type_of_error(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

std::string ApiError::body() const {
  const Json error{{"message", what()},
                   {"type", type_of_error(status_)},
                   {"param", param_.empty() ? Json(nullptr) : Json(param_)},
                   {"code", status_}};
  return Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void ApiFields::wrong(const char* name, const std::string& why) const {
  throw ApiError(400, fmt::format("{}{} {}", path_, name, why), path_ + name);
}

const Json* ApiFields::find(const char* name) const {
  const auto at = body_.find(name);
  return at == body_.end() || at->is_null() ? nullptr : &*at;
}

bool ApiFields::flag(const char* name, bool otherwise) const {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(name, "must be true or false");
  return value->get<bool>();
}

double ApiFields::number(const char* name, double otherwise, double low, double high) const {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) wrong(name, "must be a number");
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) {
    wrong(name, fmt::format("must be between {} and {}, not {}", low, high, number));
  }
  return number;
}

int64_t ApiFields::integer(const char* name, int64_t otherwise, int64_t low, int64_t high) const {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number_integer()) wrong(name, "must be an integer");
  const bool too_large = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  const int64_t number = too_large ? INT64_MAX : value->get<int64_t>();
  if (number < low || number > high) {
    wrong(name, fmt::format("must be between {} and {}, not {}", low, high, value->dump()));
  }
  return number;
}

std::string ApiFields::text(const char* name, const std::string& otherwise) const {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) wrong(name, "must be a string");
  return value->get<std::string>();
}

std::vector<std::string> ApiFields::texts(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> all;
  if (!value->is_array()) wrong(name, "must be a string or a list of strings");
  for (const Json& one : *value) {
    if (!one.is_string()) wrong(name, "must be a string or a list of strings");
    all.push_back(one.get<std::string>());
  }
  return all;
}

std::vector<int64_t> ApiFields::integers(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  std::vector<int64_t> all;
  if (!value->is_array()) wrong(name, "must be a list of integers");
  for (const Json& one : *value) {
    if (!one.is_number_integer()) wrong(name, "must be a list of integers");
    all.push_back(one.get<int64_t>());
  }
  return all;
}

void ApiFields::unsupported(const char* name, const Json& harmless, const char* why) const {
  const Json* value = find(name);
  if (value != nullptr && *value != harmless) wrong(name, why);
}

}  // namespace aerie
