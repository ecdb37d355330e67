// The CUDA module on a GPU behind tensors of the CPU: arguments travel there, results back. Only
// for tests.
#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/device.h"
#include "tests/kernels/cuda/tested.h"

namespace aerie {
namespace {

constexpr int kSkipped = 77;  // what ctest takes for "skipped"

Tensor up(const Tensor& tensor) { return tensor.defined() ? tensor.to(at::kCUDA) : tensor; }

std::vector<Tensor> up(const std::vector<Tensor>& list) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : list) result.push_back(up(tensor));
  return result;
}

std::vector<Tensor> down(const std::vector<Tensor>& list) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : list) result.push_back(tensor.cpu());
  return result;
}

Tensor down(const Tensor& tensor) { return tensor.defined() ? tensor.cpu() : tensor; }

ops::RopeTable up(const ops::RopeTable& table) { return {up(table.cos), up(table.sin)}; }

KvPool up(const KvPool& pool) {
  KvPool copy = pool;
  copy.k = up(pool.k);
  copy.v = up(pool.v);
  return copy;
}

void copy_back(KvPool& to, const KvPool& from) {
  for (size_t layer = 0; layer < to.k.size(); ++layer) {
    to.k[layer].copy_(from.k[layer]);
    to.v[layer].copy_(from.v[layer]);
  }
}

RaggedLayout up(const RaggedLayout& layout) {
  RaggedLayout copy = layout;
  for (Tensor* tensor : {&copy.q_start, &copy.kv_len, &copy.pages, &copy.slots, &copy.tree})
    *tensor = up(*tensor);
  return copy;
}

ops::AttentionInputs up(const ops::AttentionInputs& in) {
  return {up(in.q),       up(in.rows),    up(in.k),       up(in.v),
          up(in.q_start), up(in.k_steps), up(in.v_steps), in.scale};
}

NormGrads rms_norm_backward(const Tensor& grad_out, const Tensor& x, const Tensor& weight,
                            double eps) {
  const NormGrads grads = cuda_ops().rms_norm_backward(up(grad_out), up(x), up(weight), eps);
  return {down(grads.x), down(grads.weight)};
}

Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps) {
  Tensor there = up(residual);
  const Tensor out = cuda_ops().add_rms_norm_(there, up(x), up(weight), eps);
  residual.copy_(there);
  return down(out);
}

void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                const Tensor& slots) {
  KvPool there = up(pool);
  cuda_ops().kv_append_(there, layer, up(k), up(v), up(slots));
  copy_back(pool, there);
}

void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots) {
  KvPool there = up(pool);
  cuda_ops().kv_move_(there, up(from_slots), up(to_slots));
  copy_back(pool, there);
}

Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale) {
  return down(cuda_ops().ragged_attention(up(q), up(pool), layer, up(layout), scale));
}

ops::AttentionOutput ttt_forward(const ops::AttentionInputs& in) {
  const ops::AttentionOutput out = cuda_ops().ttt_forward(up(in));
  return {down(out.out), down(out.lse)};
}

ops::AttentionGrads ttt_backward(const ops::AttentionInputs& in, const ops::AttentionOutput& out,
                                 const Tensor& grad_out) {
  const ops::AttentionGrads grads =
      cuda_ops().ttt_backward(up(in), {up(out.out), up(out.lse)}, up(grad_out));
  return {down(grads.q), down(grads.k), down(grads.v), down(grads.k_steps), down(grads.v_steps)};
}

ops::HeadLossOutput head_loss(const ops::HeadLossInputs& in) {
  ops::LinearWeight head = *in.head, teacher_head = *in.teacher->head;
  head.weight = up(head.weight);
  teacher_head.weight = up(teacher_head.weight);
  ops::Teacher teacher = *in.teacher;
  teacher.hidden = up(teacher.hidden);
  teacher.head = &teacher_head;
  teacher.target_of = up(teacher.target_of);
  teacher.draft_of = up(teacher.draft_of);
  ops::HeadLossInputs there = in;
  there.hidden = up(in.hidden);
  there.head = &head;
  there.teacher = &teacher;
  there.teacher_row = up(in.teacher_row);
  there.row_weight = up(in.row_weight);
  const ops::HeadLossOutput out = cuda_ops().head_loss(there);
  const ops::HeadLoss& values = out.values;
  return {{down(values.loss), down(values.hit), down(values.in_vocab), down(values.alpha),
           down(values.total)},
          {down(out.grads.hidden), down(out.grads.head)}};
}

const CudaOps kTable{
    .device_count = [] { return cuda_ops().device_count(); },
    .rms_norm = [](const Tensor& x, const Tensor& weight,
                   double eps) { return down(cuda_ops().rms_norm(up(x), up(weight), eps)); },
    .rms_norm_backward = rms_norm_backward,
    .add_rms_norm_ = add_rms_norm_,
    .rope =
        [](const Tensor& x, const Tensor& positions, const ops::RopeTable& table, bool inverse) {
          return down(cuda_ops().rope(up(x), up(positions), up(table), inverse));
        },
    .swiglu = [](const Tensor& gate_up) { return down(cuda_ops().swiglu(up(gate_up))); },
    .swiglu_backward =
        [](const Tensor& grad_out, const Tensor& gate_up) {
          return down(cuda_ops().swiglu_backward(up(grad_out), up(gate_up)));
        },
    .kv_append_ = kv_append_,
    .kv_move_ = kv_move_,
    .ragged_attention = ragged_attention,
    .ttt_forward = ttt_forward,
    .ttt_backward = ttt_backward,
    .head_loss = head_loss};

}  // namespace

const CudaOps& tested() { return kTable; }

void set_multiprocessors(int) {}

void set_thread_order(int) {}

}  // namespace aerie

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (aerie::cuda_ops().device_count() == 0) {
    std::puts("no CUDA device here: skipped");
    return aerie::kSkipped;
  }
  return RUN_ALL_TESTS();
}
