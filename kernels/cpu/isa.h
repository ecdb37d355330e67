// Which instructions the hand-written CPU kernels may use, found at run time.
#pragma once

namespace aerie::cpu {

/// In rising order of speed; a machine that has one also has those below it.
enum class Isa {
  kPortable,  ///< what the compiler makes of plain loops
  kAvx2,      ///< AVX2 with FMA; bf16 is widened in registers
  kAvx512,    ///< AVX-512 with BF16 dot products
  kAmx,       ///< AMX tiles of BF16
};

/// The best of this machine; the environment variable AERIE_ISA (portable, avx2, avx512, amx) caps
/// it. The first call asks the kernel for the AMX registers.
Isa best_isa();

const char* isa_name(Isa isa);

}  // namespace aerie::cpu
