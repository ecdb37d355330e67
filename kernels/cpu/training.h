// The fast CPU forms of the trainer's ops. Each says what it supports; the rest runs composed.
#pragma once
#include "kernels/training.h"

namespace aerie::ops::cpu {

/// bf16 on a machine with AMX, head size a multiple of 32.
bool ttt_supported(const AttentionInputs& in);
AttentionOutput ttt_forward(const AttentionInputs& in);
AttentionGrads ttt_backward(const AttentionInputs& in, const AttentionOutput& out,
                            const Tensor& d_out);

/// bf16 with packed heads (and the transpose of a trainable one), on any CPU.
bool head_loss_supported(const HeadLossInputs& in);
HeadLossOutput head_loss(const HeadLossInputs& in);

}  // namespace aerie::ops::cpu
