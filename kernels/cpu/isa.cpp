#include "kernels/cpu/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <utility>

#include "common/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aerie::cpu {
namespace {

constexpr std::array kNames = {
    std::pair{Isa::kPortable, "portable"},
    std::pair{Isa::kAvx2, "avx2"},
    std::pair{Isa::kAvx512, "avx512"},
    std::pair{Isa::kAmx, "amx"},
};

#if defined(__x86_64__)
/// Linux hands out the 8 KiB of tile registers on request only (arch_prctl(2)), once for all
/// threads.
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool bf16 = d & (1u << 22), tile = d & (1u << 24);
  return bf16 && tile && request_tiles();
}

Isa detect() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::kPortable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bf16");
  if (!avx512) return Isa::kAvx2;
  return has_amx() ? Isa::kAmx : Isa::kAvx512;
}
#else
Isa detect() { return Isa::kPortable; }
#endif

Isa cap() {
  const char* wanted = std::getenv("AERIE_ISA");
  if (wanted == nullptr || *wanted == '\0') return Isa::kAmx;
  for (const auto& [isa, name] : kNames) {
    if (std::string(wanted) == name) return isa;
  }
  fail("AERIE_ISA is '{}': it must be one of portable, avx2, avx512, amx", wanted);
}

}  // namespace

Isa best_isa() {
  static const Isa isa = std::min(detect(), cap());
  return isa;
}

const char* isa_name(Isa isa) { return kNames[static_cast<size_t>(isa)].second; }

}  // namespace aerie::cpu
