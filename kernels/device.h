// Which device the program computes on, and the CUDA side that is loaded only when one is asked
// for.
#pragma once
#include <c10/core/Device.h>

#include <string>

namespace aerie {

struct CudaOps;

/// "cpu" or "cuda:N". For CUDA it loads the CUDA side and looks for the device. Throws Error that
/// names --device and the fix where the text is something else, this build has no CUDA side, or the
/// machine has no such device. Call it before anything else asks ATen about CUDA, which remembers
/// the first answer.
at::Device parse_device(const std::string& text);

/// The CUDA kernels; loads libaerie_cuda.so, which lies beside the program, on first use. Throws
/// Error if that fails.
const CudaOps& cuda_ops();

}  // namespace aerie
