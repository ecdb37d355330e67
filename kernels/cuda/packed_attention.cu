// Attention of chosen rows within packed documents: the base block of the TTT attention, and packed
// attention itself.
#include "kernels/cuda/packed_keys.cuh"

namespace aerie::cuda {

void packed_attention(const PackedAttention& args, Stream stream) {
  attend(PackedKeys{args}, stream);
}

}  // namespace aerie::cuda
