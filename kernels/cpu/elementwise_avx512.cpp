#include "kernels/cpu/elementwise_loops.h"

namespace aerie::cpu {

const RowOps<bf16> kRowsAvx512Bf16 = kRowLoops<bf16>;
const RowOps<float> kRowsAvx512F32 = kRowLoops<float>;

}  // namespace aerie::cpu
