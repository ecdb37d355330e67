// The one exception type. A message names the file, key, tensor or flag, and the fix.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace aerie {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace aerie

/// Throws Error with the formatted message unless `condition` holds.
#define AERIE_CHECK(condition, ...)               \
  do {                                            \
    if (!(condition)) ::aerie::fail(__VA_ARGS__); \
  } while (false)
