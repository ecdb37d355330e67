// In place of kernels/cpu/isa.cpp: every machine with AVX-512 BF16 has tiles here.
#include "kernels/cpu/isa.h"

namespace aerie::cpu {

Isa best_isa() {
  const bool vectors = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512bf16");
  return vectors ? Isa::kAmx : Isa::kPortable;
}

const char* isa_name(Isa isa) {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512", "amx"};
  return kNames[static_cast<int>(isa)];
}

}  // namespace aerie::cpu
