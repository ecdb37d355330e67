// The fused head's work on single rows of logits, between its matrix products. Each function has a
// portable and an AVX-512 form; head_loss.cpp picks one table at run time.
#pragma once
#include "kernels/cpu/gemm.h"
#include "kernels/losses.h"

namespace aerie::cpu {

/// Softmax statistics of a part of a row: the sum is relative to `max`, so parts combine.
struct RowStatistics {
  float max, sum;
  int64_t argmax;  ///< the first of equals
};

/// What a student row compares itself with.
struct TeacherRow {
  const float* p;  ///< [W] softmax over the draft vocabulary
  float entropy;   ///< sum p log p
  float mass;      ///< probability of the draft vocabulary under the full softmax
  int64_t label;   ///< draft id of the argmax over the full vocabulary, or -1
};

struct StudentResult {
  float loss, alpha;
  int64_t argmax;
};

struct HeadLossRows {
  /// Statistics of scores [count].
  RowStatistics (*statistics)(const float* scores, int64_t count);
  /// out[i] = scores[columns[i] - offset].
  void (*gather)(float* out, const float* scores, const int32_t* columns, int64_t offset,
                 int64_t count);
  /// Logits [count] -> softmax in place; returns log of the denominator and, in `entropy`, sum p
  /// log p.
  float (*softmax)(float* logits, int64_t count, float* entropy);
  /// Logits [count] of a student (overwritten) -> KL, alpha, argmax; and where d_logits is given
  /// (q - p) * weight in bf16.
  StudentResult (*student)(float* logits, int64_t count, const TeacherRow& teacher, float weight,
                           bf16* d_logits);
  /// The same for any mixture of losses. A teacher without a label must have weight 0.
  StudentResult (*mixed_student)(float* logits, int64_t count, const TeacherRow& teacher,
                                 const ops::LossMix& mix, float weight, bf16* d_logits);
};

const HeadLossRows& head_loss_rows(Isa isa = best_isa());

extern const HeadLossRows kHeadLossRowsPortable, kHeadLossRowsAvx512;

}  // namespace aerie::cpu
