// A row of any mixture of losses (kernels/losses.cpp defines them) as loops that the compiler
// vectorises; compiled once for each instruction set, on top of that set's softmax primitives. All
// gradients with respect to logits have the form q_i (a_i - sum_j q_j a_j), so that one pass for
// sums and one for the gradient do for all terms together.
#pragma once
#include <cmath>

#include "kernels/cpu/head_loss_rows.h"
#include "kernels/cpu/math_loops.h"

namespace aerie::cpu {
namespace {

/// Largest element of a row and where it stands first.
struct Top {
  float value;
  int64_t index;
};

/// log x to 2 ulp for normal positive x: m in [sqrt(1/2), sqrt(2)) and log m = 2 artanh(s),
/// s = (m - 1) / (m + 1). What is smaller counts as the smallest normal number.
inline float logarithm(float x) {
  constexpr float kSmallest = 1.17549435e-38f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr uint32_t kHalfRoot = 0x3f3504f3;  // sqrt(1/2)
  const uint32_t bits = as_bits(x > kSmallest ? x : kSmallest);
  const int32_t exponent = static_cast<int32_t>(bits - kHalfRoot) >> 23;
  const float m = as_float(bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  const float s = m / (2.0f + m), z = s * s;
  const float series =
      2.0f * s * (1.0f + z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9)))));
  const auto e = static_cast<float>(exponent);
  return e * kLn2High + (series + e * kLn2Low);
}

/// What the terms of one row share.
struct RowSums {
  float alpha = 0;               // sum min(p', q)
  float below = 0;               // sum of q where q <= p'
  float reverse = 0;             // sum q log(q/p)
  float from_p = 0, from_q = 0;  // sum p log(p/m), sum q log(q/m)
};

/// Weights of the gradient's shapes: those of the mixture once alpha is known.
struct RowWeights {
  float kl, tv, ce, reverse, js;
};

// Far from the teacher alpha may vanish; the gradient that is divided by it does not exceed 1.
constexpr float kLeastAlpha = 1e-20f;

inline RowWeights row_weights(const ops::LossMix& mix, float alpha) {
  const double w = mix.lk_scale * std::exp(-mix.lk_decay * alpha);
  const double inverse = 1 / (alpha > kLeastAlpha ? alpha : kLeastAlpha);
  return {static_cast<float>(mix.kl + mix.lk_lambda * w),
          static_cast<float>(mix.tv + mix.lk_alpha * inverse + mix.lk_lambda * (1 - w)),
          static_cast<float>(mix.ce), static_cast<float>(mix.reverse_kl),
          static_cast<float>(mix.js)};
}

/// Sums over lanes in a fixed order; `term(i, lane)` adds element i to its lane.
template <typename Term>
inline void for_lanes(int64_t count, const Term& term) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) term(i + lane, lane);
  }
  for (; i < count; ++i) term(i, i % kLanes);
}

inline float fold_sum(float* partial) {
  return fold_lanes(partial, [](float a, float b) { return a + b; });
}

/// Exponentials [count] -> q in place, and its overlap with the teacher.
inline void overlap_sums(float* q, int64_t count, const TeacherRow& teacher, float inverse,
                         RowSums& sums) {
  float alpha[kLanes] = {}, below[kLanes] = {};
  for_lanes(count, [&](int64_t i, int64_t lane) {
    const float value = q[i] * inverse, full = teacher.mass * teacher.p[i];
    q[i] = value;
    alpha[lane] += value < full ? value : full;
    below[lane] += value <= full ? value : 0.0f;
  });
  sums.alpha = fold_sum(alpha);
  sums.below = fold_sum(below);
}

inline void logarithm_sums(const float* q, int64_t count, const TeacherRow& teacher,
                           RowSums& sums) {
  float reverse[kLanes] = {}, from_p[kLanes] = {}, from_q[kLanes] = {};
  for_lanes(count, [&](int64_t i, int64_t lane) {
    const float p = teacher.p[i], log_q = logarithm(q[i]), log_p = logarithm(p);
    const float log_m = logarithm(0.5f * (p + q[i]));
    reverse[lane] += q[i] * (log_q - log_p);
    from_p[lane] += p * (log_p - log_m);
    from_q[lane] += q[i] * (log_q - log_m);
  });
  sums.reverse = fold_sum(reverse);
  sums.from_p = fold_sum(from_p);
  sums.from_q = fold_sum(from_q);
}

/// d loss / d logit of element i, the label's own -ce apart.
template <bool kLogarithms>
inline float gradient_at(float q, float p, const TeacherRow& teacher, const RowWeights& w,
                         const RowSums& sums, float shared) {
  float factor = shared - (q <= teacher.mass * p ? w.tv : 0.0f);
  if constexpr (kLogarithms) {
    const float log_q = logarithm(q);
    factor += w.reverse * (log_q - logarithm(p) - sums.reverse) +
              0.5f * w.js * (log_q - logarithm(0.5f * (p + q)) - sums.from_q);
  }
  return q * factor - w.kl * p;
}

template <bool kLogarithms>
inline void write_gradient(bf16* out, const float* q, int64_t count, const TeacherRow& teacher,
                           const RowWeights& w, const RowSums& sums, float weight) {
  const float shared = w.kl + w.ce + w.tv * sums.below;
  const auto at = [&](int64_t i) {
    return gradient_at<kLogarithms>(q[i], teacher.p[i], teacher, w, sums, shared);
  };
  for (int64_t i = 0; i < count; ++i) out[i] = narrow<bf16>(weight * at(i));
  const int64_t label = teacher.label;
  if (w.ce != 0 && label >= 0) out[label] = narrow<bf16>(weight * (at(label) - w.ce));
}

inline float loss_value(const RowWeights& w, const ops::LossMix& mix, const RowSums& sums,
                        float divergence, float label_loss) {
  // lk_alpha's weight in `w.tv` is of its gradient; its value is a logarithm.
  const auto lk_alpha = static_cast<float>(mix.lk_alpha);
  const float inverse = 1 / (sums.alpha > kLeastAlpha ? sums.alpha : kLeastAlpha);
  const float distance = (w.tv - lk_alpha * inverse) * (1 - sums.alpha);
  return w.kl * divergence + distance - lk_alpha * logarithm(sums.alpha) + w.ce * label_loss +
         w.reverse * sums.reverse + 0.5f * w.js * (sums.from_p + sums.from_q);
}

/// HeadLossRows::mixed_student over `Softmax::find_top` and `Softmax::exponentials`.
template <typename Softmax>
StudentResult mixed_student(float* logits, int64_t count, const TeacherRow& teacher,
                            const ops::LossMix& mix, float weight, bf16* d_logits) {
  const Top top = Softmax::find_top(logits, count);
  const float label_logit = logits[teacher.label > 0 ? teacher.label : 0];
  float product = 0;
  const float sum = Softmax::exponentials(logits, count, top.value, teacher.p, &product);
  const float log_sum = std::log(sum);
  const bool logarithms = mix.reverse_kl != 0 || mix.js != 0;

  RowSums sums;
  overlap_sums(logits, count, teacher, 1 / sum, sums);
  if (logarithms) logarithm_sums(logits, count, teacher, sums);
  const RowWeights w = row_weights(mix, sums.alpha);
  if (d_logits != nullptr) {
    const auto write = logarithms ? write_gradient<true> : write_gradient<false>;
    write(d_logits, logits, count, teacher, w, sums, weight);
  }
  const float label_loss = log_sum - (label_logit - top.value);
  return {loss_value(w, mix, sums, teacher.entropy - product + log_sum, label_loss), sums.alpha,
          top.index};
}

}  // namespace
}  // namespace aerie::cpu
