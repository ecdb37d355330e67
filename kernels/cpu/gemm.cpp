#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "common/error.h"
#include "common/threads.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/scratch.h"

namespace aerie::cpu {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

auto gemm_for(Isa isa) {
  AERIE_CHECK(isa <= best_isa(), "gemm: this machine has no {}", isa_name(isa));
  switch (isa) {
    case Isa::kAmx:
      return gemm_block_amx;
    case Isa::kAvx512:
      return gemm_block_avx512;
    case Isa::kAvx2:
      return gemm_block_avx2;
    case Isa::kPortable:
      break;
  }
  return gemm_block_portable;
}

/// How the product is cut into tasks: rows so few that their A stays in the second-level cache
/// while B passes by, panels so few that every thread gets some.
struct Cut {
  int64_t rows, panels, row_tasks, panel_tasks;
};

Cut cut(const Gemm& g) {
  constexpr int64_t kCacheForA = 768 << 10;
  const int64_t panels = divide_up(g.n, kPanel), threads = num_threads();
  const int64_t fitting = std::max<int64_t>(kCacheForA / (g.k * 2) / 32 * 32, 64);
  const int64_t row_tasks = divide_up(g.m, fitting);
  const int64_t rows = divide_up(divide_up(g.m, row_tasks), 32) * 32;
  // A few tasks a thread, because threads do not run equally fast; but a task of less than some
  // microseconds costs more to hand out than it evens out.
  const int64_t wanted = std::max<int64_t>(threads * 3 / row_tasks, 1);
  const int64_t panels_a_task = std::max<int64_t>({divide_up(panels, wanted), 1});
  return {rows, panels_a_task, divide_up(g.m, rows), divide_up(panels, panels_a_task)};
}

/// The kernels read whole blocks of k: copies A with rows padded by zeros.
void pad_k(Gemm& g) {
  const int64_t padded = divide_up(g.k, kKBlock) * kKBlock;
  auto* copy = static_cast<bf16*>(scratch(Scratch::kGemmA, g.m * padded * sizeof(bf16)));
  for (int64_t row = 0; row < g.m; ++row) {
    std::memcpy(copy + row * padded, g.a + row * g.lda, g.k * sizeof(bf16));
    std::memset(copy + row * padded + g.k, 0, (padded - g.k) * sizeof(bf16));
  }
  g.a = copy;
  g.lda = g.k = padded;
}

}  // namespace

int64_t packed_size(int64_t n, int64_t k) {
  return divide_up(n, kPanel) * kPanel * divide_up(k, kKBlock) * kKBlock;
}

void gemm(const Gemm& problem, Isa isa) {
  AERIE_CHECK((problem.c_f32 != nullptr) != (problem.c_bf16 != nullptr),
              "gemm: one of c_f32 and c_bf16 is needed");
  AERIE_CHECK(!problem.accumulate || problem.c_f32 != nullptr, "gemm: accumulates into f32 only");
  AERIE_CHECK(problem.k > 0, "gemm: k is {}; there is nothing to sum", problem.k);
  if (problem.m == 0 || problem.n == 0) return;
  Gemm g = problem;
  if (g.k % kKBlock != 0) pad_k(g);
  const auto kernel = gemm_for(isa);
  const Cut tasks = cut(g);
  const int64_t panels = divide_up(g.n, kPanel);
  parallel_for(0, tasks.row_tasks * tasks.panel_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / tasks.panel_tasks * tasks.rows,
                    panel = task % tasks.panel_tasks * tasks.panels;
      kernel(g,
             {row, std::min(row + tasks.rows, g.m), panel, std::min(panel + tasks.panels, panels)});
    }
  });
}

}  // namespace aerie::cpu
