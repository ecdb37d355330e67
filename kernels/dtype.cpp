#include "kernels/dtype.h"

#include "common/error.h"

namespace aerie {

c10::ScalarType parse_dtype(const std::string& text) {
  if (text == "bfloat16") return c10::ScalarType::BFloat16;
  if (text == "float32") return c10::ScalarType::Float;
  fail("--dtype {} is not known: choose bfloat16 or float32", text);
}

}  // namespace aerie
