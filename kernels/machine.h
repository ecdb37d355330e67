// The machine that a figure was measured on.
#pragma once
#include <cstdint>
#include <string>

namespace aerie {

struct Machine {
  std::string cpu;           ///< "Intel(R) Xeon(R) Platinum 8581C"
  std::string instructions;  ///< what the hand-written kernels use: "amx", "avx512", ...
  int cores = 0;             ///< that this process may run on
  int threads = 0;           ///< compute threads (common/threads.h)
  int64_t memory_bytes = 0;  ///< of the machine
};

Machine describe_machine();

}  // namespace aerie
