#include "data/hf_text.h"

#include "common/error.h"

namespace aerie {

std::string hf_string(HfBytes bytes) {
  std::string text(bytes.data, bytes.size);
  hf_bytes_free(bytes);
  return text;
}

std::string hf_error() {
  HfBytes message{};
  hf_last_error(&message);
  return hf_string(message);
}

void hf_check(int status, std::string_view what) {
  if (status != 0) fail("{}: {}", what, hf_error());
}

}  // namespace aerie
