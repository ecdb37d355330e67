#include "decoding/sequence.h"

namespace aerie {

std::string to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "abort";
    case FinishReason::kRunning:
      break;
  }
  return "running";
}

}  // namespace aerie
