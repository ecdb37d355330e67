// A mixture of experts: rows grouped by expert, each expert's group one task for a thread, so that
// its weights are read once and small groups do not wait for each other.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "common/threads.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/tensor_bits.h"

namespace aerie::ops::cpu {
namespace {

using aerie::cpu::bf16;
using aerie::cpu::narrow;
using aerie::cpu::widen;

/// Choices (row * E + e) sorted by expert, and where each expert's begin.
struct Groups {
  std::vector<int64_t> choice;  ///< [N*E]
  std::vector<int64_t> begin;   ///< [experts + 1]
  std::vector<int64_t> active;  ///< experts that have rows, the largest group first
};

Groups group_by_expert(const Tensor& chosen, int64_t experts) {
  const int64_t* expert = chosen.const_data_ptr<int64_t>();
  const int64_t count = chosen.numel();
  Groups groups{std::vector<int64_t>(count), std::vector<int64_t>(experts + 1), {}};
  for (int64_t i = 0; i < count; ++i) ++groups.begin[expert[i] + 1];
  for (int64_t e = 0; e < experts; ++e) {
    if (groups.begin[e + 1] > 0) groups.active.push_back(e);
  }
  std::stable_sort(groups.active.begin(), groups.active.end(),
                   [&](int64_t a, int64_t b) { return groups.begin[a + 1] > groups.begin[b + 1]; });
  std::partial_sum(groups.begin.begin(), groups.begin.end(), groups.begin.begin());
  std::vector<int64_t> at(groups.begin.begin(), groups.begin.end() - 1);
  for (int64_t i = 0; i < count; ++i) groups.choice[at[expert[i]]++] = i;
  return groups;
}

/// Work memory of all groups, in the order of Groups::choice.
struct Rows {
  Tensor in, gate_up, inner, out;  ///< [N*E,C], [N*E,2*I], [N*E,I], [N*E,C]
};

void product(const bf16* a, const LinearWeight& weight, bf16* c, int64_t rows) {
  aerie::cpu::Gemm problem{.m = rows, .n = weight.out_features, .k = weight.in_features};
  problem.a = a;
  problem.lda = weight.in_features;
  problem.b = static_cast<const bf16*>(weight.packed.const_data_ptr());
  problem.c_bf16 = c;
  problem.ldc = weight.out_features;
  aerie::cpu::gemm(problem);
}

/// Rows [begin, begin + count) of the work memory through one expert.
void run_expert(const Expert& expert, const Rows& rows, int64_t begin, int64_t count) {
  const int64_t hidden = rows.in.size(1), inner = rows.inner.size(1);
  product(mutable_bits(rows.in) + begin * hidden, expert.gate_up,
          mutable_bits(rows.gate_up) + begin * 2 * inner, count);
  const auto swiglu_row = aerie::cpu::row_ops<bf16>().swiglu;
  for (int64_t row = begin; row < begin + count; ++row) {
    swiglu_row(mutable_bits(rows.inner) + row * inner, mutable_bits(rows.gate_up) + row * 2 * inner,
               inner);
  }
  product(mutable_bits(rows.inner) + begin * inner, expert.down,
          mutable_bits(rows.out) + begin * hidden, count);
}

/// out[n] = the weighted sum of its choices, in their order: the same bits whatever the grouping.
void combine(bf16* out, const float* weights, const Rows& rows, const std::vector<int64_t>& place,
             int64_t choices, int64_t row) {
  const int64_t hidden = rows.out.size(1);
  std::vector<float> sum(static_cast<size_t>(hidden), 0.0f);
  for (int64_t i = row * choices; i < (row + 1) * choices; ++i) {
    const bf16* value = mutable_bits(rows.out) + place[i] * hidden;
    for (int64_t c = 0; c < hidden; ++c) sum[c] += weights[i] * widen(value[c]);
  }
  for (int64_t c = 0; c < hidden; ++c) out[row * hidden + c] = narrow<bf16>(sum[c]);
}

}  // namespace

Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts) {
  const Tensor source = x.contiguous(), ids = chosen.contiguous(), factors = weights.contiguous();
  const int64_t choices = ids.size(1), count = ids.numel(), hidden = x.size(1);
  const int64_t inner = experts[0].down.in_features;
  const Groups groups = group_by_expert(ids, static_cast<int64_t>(experts.size()));
  const Rows rows{at::empty({count, hidden}, x.options()),
                  at::empty({count, 2 * inner}, x.options()),
                  at::empty({count, inner}, x.options()), at::empty({count, hidden}, x.options())};
  std::vector<int64_t> place(count);
  for (int64_t i = 0; i < count; ++i) {
    place[groups.choice[i]] = i;
    const bf16* from = mutable_bits(source) + groups.choice[i] / choices * hidden;
    std::copy(from, from + hidden, mutable_bits(rows.in) + i * hidden);
  }
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t e = groups.active[i], first = groups.begin[e];
      run_expert(experts[e], rows, first, groups.begin[e + 1] - first);
    }
  };
  const auto active = static_cast<int64_t>(groups.active.size());
  // Fewer experts than threads: the threads share each product instead.
  if (active < num_threads()) {
    run(0, active);
  } else {
    parallel_for(0, active, 1, run);
  }
  Tensor out = at::empty(x.sizes(), x.options());
  parallel_for(0, x.size(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      combine(mutable_bits(out), factors.const_data_ptr<float>(), rows, place, choices, row);
    }
  });
  return out;
}

}  // namespace aerie::ops::cpu
