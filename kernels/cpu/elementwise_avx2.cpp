#include "kernels/cpu/elementwise_loops.h"

namespace aerie::cpu {

const RowOps<bf16> kRowsAvx2Bf16 = kRowLoops<bf16>;
const RowOps<float> kRowsAvx2F32 = kRowLoops<float>;

}  // namespace aerie::cpu
