// The type that weights and activations are in, as --dtype names it.
#pragma once
#include <c10/core/ScalarType.h>

#include <string>

namespace aerie {

/// "bfloat16" or "float32"; Error for anything else.
c10::ScalarType parse_dtype(const std::string& text);

}  // namespace aerie
