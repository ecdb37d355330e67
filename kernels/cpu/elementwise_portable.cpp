#include "kernels/cpu/elementwise_loops.h"

namespace aerie::cpu {

const RowOps<bf16> kRowsPortableBf16 = kRowLoops<bf16>;
const RowOps<float> kRowsPortableF32 = kRowLoops<float>;

}  // namespace aerie::cpu
