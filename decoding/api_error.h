// Errors as OpenAI's clients expect them.
#pragma once
#include <string>

#include "common/error.h"
#include "data/json.h"

namespace aerie {

/// What a caller of the server did wrong, or the server cannot do now.
class ApiError : public Error {
 public:
  /// `status`: of HTTP. `param`: the field that is wrong, "" if none is.
  ApiError(int status, const std::string& message, std::string param = "")
      : Error(message), status_(status), param_(std::move(param)) {}

  int status() const { return status_; }
  /// {"error": {"message", "type", "param", "code"}}
  std::string body() const;

 private:
  int status_;
  std::string param_;
};

}  // namespace aerie
