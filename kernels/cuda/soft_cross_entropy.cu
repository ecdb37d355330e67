// The distillation loss over logits and the statistics of a row of logits: one
// block a row. Rows are read once for their maximum and sum of exponentials, and once more, mostly
// from L2, for what is computed from them.
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {
namespace {

constexpr int kThreads = 512;

/// A running softmax denominator, and where the maximum is. The smaller index wins a tie, as on the
/// CPU.
struct Peak {
  float maximum = -INFINITY, sum = 0.f;
  int64_t index = INT64_MAX;

  __device__ __forceinline__ void see(float value, int64_t where) {
    if (value > maximum) {
      sum = sum * expf(maximum - value) + 1.f;
      maximum = value;
      index = where;
    } else if (value != -INFINITY) {  // true of a NaN, which thus reaches the sum
      sum += expf(value - maximum);
    }
  }

  __device__ __forceinline__ void join(const Peak& other) {
    if (other.maximum == -INFINITY) return;
    const float larger = fmaxf(maximum, other.maximum);
    sum = sum * expf(maximum - larger) + other.sum * expf(other.maximum - larger);
    if (other.maximum > maximum || (other.maximum == maximum && other.index < index))
      index = other.index;
    maximum = larger;
  }

  __device__ __forceinline__ float lse() const { return maximum + logf(sum); }
};

__device__ __forceinline__ Peak warp_join(Peak peak) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    Peak other;
    other.maximum = __shfl_xor_sync(kAllLanes, peak.maximum, step);
    other.sum = __shfl_xor_sync(kAllLanes, peak.sum, step);
    other.index = __shfl_xor_sync(kAllLanes, peak.index, step);
    peak.join(other);
  }
  return peak;
}

/// Every thread gets the block's peak.
__device__ __forceinline__ Peak block_join(Peak peak) {
  __shared__ float maxima[kWarp], sums[kWarp];
  __shared__ int64_t indices[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  peak = warp_join(peak);
  __syncthreads();  // the previous call's peaks have been read
  if (lane == 0) {
    maxima[warp] = peak.maximum;
    sums[warp] = peak.sum;
    indices[warp] = peak.index;
  }
  __syncthreads();
  Peak mine;
  if (lane < int(blockDim.x) / kWarp) {
    mine.maximum = maxima[lane];
    mine.sum = sums[lane];
    mine.index = indices[lane];
  }
  return warp_join(mine);
}

template <typename T, int kPack>
__device__ Peak row_peak(const T* logits, int64_t width) {
  Peak peak;
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < width; c += int64_t(blockDim.x) * kPack) {
    const auto values = load<kPack>(logits + c);
    for (int i = 0; i < kPack; ++i) peak.see(to_float(values.at[i]), c + i);
  }
  return block_join(peak);
}

template <typename T, int kPack>
__global__ void row_stats_kernel(RowStats args) {
  const Peak peak =
      row_peak<T, kPack>(static_cast<const T*>(args.logits) + blockIdx.x * args.width, args.width);
  if (threadIdx.x == 0) {
    args.argmax[blockIdx.x] =
        peak.index < args.width ? peak.index : 0;  // a row of NaN has no maximum
    args.lse[blockIdx.x] = peak.lse();
  }
}

/// Sums of this thread's share of the vocabulary; the gradient goes over the student's logits.
template <typename T, typename U, int kPack>
__device__ void second_pass(const SoftCrossEntropy& args, T* student, const U* teacher,
                            float student_lse, float teacher_lse, float full_lse, float weight,
                            float& loss, float& alpha) {
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < args.width; c += int64_t(blockDim.x) * kPack) {
    auto students = load<kPack>(student + c);
    const auto teachers = load<kPack>(teacher + c);
    for (int i = 0; i < kPack; ++i) {
      const float z = to_float(teachers.at[i]);
      const float log_p = z - teacher_lse, log_q = to_float(students.at[i]) - student_lse;
      const float p = expf(log_p), q = expf(log_q);
      if (p > 0.f) loss += p * (log_p - log_q);
      alpha += fminf(expf(z - full_lse), q);
      students.at[i] = from_float<T>(weight * (q - p));
    }
    if (args.write_gradient) store(student + c, students);
  }
}

template <typename T, typename U, int kPack>
__global__ void soft_cross_entropy_kernel(SoftCrossEntropy args) {
  const int64_t row = blockIdx.x, teacher_row = args.teacher_row[row],
                label = args.label[teacher_row];
  T* student = static_cast<T*>(args.student) + row * args.width;
  const U* teacher = static_cast<const U*>(args.teacher) + teacher_row * args.width;
  const Peak student_peak = row_peak<T, kPack>(student, args.width);
  const Peak teacher_peak = row_peak<U, kPack>(teacher, args.width);

  float loss = 0.f, alpha = 0.f;
  const float weight = label < 0 ? 0.f : args.row_weight[row];
  second_pass<T, U, kPack>(args, student, teacher, student_peak.lse(), teacher_peak.lse(),
                           args.teacher_lse[teacher_row], weight, loss, alpha);
  loss = block_reduce<Sum>(loss);
  alpha = block_reduce<Sum>(alpha);
  if (threadIdx.x == 0) {
    args.loss[row] = label < 0 ? 0.f : loss;
    args.alpha[row] = alpha;
    args.hit[row] = student_peak.index == label;
  }
}

Grid row_grid(int64_t rows, int64_t width, int pack) {
  Grid grid;
  grid.x = rows;
  grid.threads = threads_for(divide_up(width, pack), kThreads);
  return grid;
}

}  // namespace

void row_stats(const RowStats& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    with_pack<T>(packable<T>({args.width}, {args.logits}), [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      launch(row_grid(args.rows, args.width, kPack), stream, row_stats_kernel<T, kPack>, args);
    });
  });
}

void soft_cross_entropy(const SoftCrossEntropy& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    with_pack<T>(packable<T>({args.width}, {args.student, args.teacher}), [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const auto kernel = args.teacher_dtype == Dtype::kFloat32
                              ? soft_cross_entropy_kernel<T, float, kPack>
                              : soft_cross_entropy_kernel<T, T, kPack>;
      launch(row_grid(args.rows, args.width, kPack), stream, kernel, args);
    });
  });
}

}  // namespace aerie::cuda
