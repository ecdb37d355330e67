#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/tensor_bits.h"

namespace aerie::ops::cpu {
Tensor pack(const Tensor& weight, aerie::cpu::Source order, Tensor out) {
  const Tensor rows = weight.detach().contiguous();
  const bool as_is = order == aerie::cpu::Source::kNK;
  const int64_t ld = rows.size(1), n = as_is ? rows.size(0) : rows.size(1),
                k = as_is ? rows.size(1) : rows.size(0);
  const int64_t size = aerie::cpu::packed_size(n, k);
  if (!out.defined() || out.numel() != size)
    out = at::empty({size}, rows.options().dtype(at::kBFloat16));
  if (rows.scalar_type() == at::kFloat) {
    aerie::cpu::pack_b(mutable_bits(out), rows.const_data_ptr<float>(), ld, n, k, order);
  } else {
    aerie::cpu::pack_b(mutable_bits(out), bits(rows), ld, n, k, order);
  }
  return out;
}

Tensor unpack(const Tensor& packed, int64_t out_features, int64_t in_features) {
  Tensor weight = at::empty({out_features, in_features}, packed.options());
  aerie::cpu::unpack_b(mutable_bits(weight), bits(packed), out_features, in_features);
  return weight;
}

Tensor linear(const Tensor& x, const Tensor& packed, int64_t out_features) {
  const Tensor rows = x.stride(1) == 1 ? x : x.contiguous();
  Tensor y = at::empty({x.size(0), out_features}, x.options());
  if (x.size(0) == 0) return y;  // a prompt's piece that is not its last has no queries
  aerie::cpu::Gemm problem{.m = x.size(0), .n = out_features, .k = x.size(1)};
  problem.a = bits(rows);
  problem.lda = rows.stride(0);
  problem.b = bits(packed);
  problem.c_bf16 = mutable_bits(y);
  problem.ldc = out_features;
  aerie::cpu::gemm(problem);
  return y;
}

}  // namespace aerie::ops::cpu
