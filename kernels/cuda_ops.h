// What the CUDA module offers: one table of functions, so that the program neither links nor loads
// libtorch_cuda (0.6 s of start-up) unless a CUDA device is asked for. Arguments have been checked
// by ops.cpp; meanings are those of ops.h and training.h. Nothing here records itself for autograd:
// cuda_layers.h does that for the layers.
#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>

#include "kernels/ops.h"
#include "kernels/training.h"

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace aerie {

struct NormGrads {
  Tensor x;       ///< like x
  Tensor weight;  ///< [C] f32
};

struct CudaOps {
  int (*device_count)();
  Tensor (*rms_norm)(const Tensor& x, const Tensor& weight, double eps);
  NormGrads (*rms_norm_backward)(const Tensor& grad_out, const Tensor& x, const Tensor& weight,
                                 double eps);
  Tensor (*add_rms_norm_)(Tensor& residual, const Tensor& x, const Tensor& weight, double eps);
  /// `inverse` rotates back, which is the backward.
  Tensor (*rope)(const Tensor& x, const Tensor& positions, const ops::RopeTable& table,
                 bool inverse);
  Tensor (*swiglu)(const Tensor& gate_up);
  Tensor (*swiglu_backward)(const Tensor& grad_out, const Tensor& gate_up);
  void (*kv_append_)(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                     const Tensor& slots);
  void (*kv_move_)(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots);
  Tensor (*ragged_attention)(const Tensor& q, const KvPool& pool, int64_t layer,
                             const RaggedLayout& layout, double scale);
  ops::AttentionOutput (*ttt_forward)(const ops::AttentionInputs& in);
  ops::AttentionGrads (*ttt_backward)(const ops::AttentionInputs& in,
                                      const ops::AttentionOutput& out, const Tensor& grad_out);
  ops::HeadLossOutput (*head_loss)(const ops::HeadLossInputs& in);
  /// NCCL among the ranks that meet at `store`. A wait for an exchange returns when it is done, and
  /// throws after `timeout`.
  c10::intrusive_ptr<c10d::Backend> (*nccl_backend)(const c10::intrusive_ptr<c10d::Store>& store,
                                                    int rank, int ranks,
                                                    std::chrono::milliseconds timeout) = nullptr;
};

/// The module's only exported symbol has this name and type.
inline constexpr const char* kCudaOpsSymbol = "aerie_cuda_ops";
using CudaOpsEntry = const CudaOps* (*)();

}  // namespace aerie
