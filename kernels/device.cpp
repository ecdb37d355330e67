#include "kernels/device.h"

#include <dlfcn.h>

#include <charconv>
#include <filesystem>

#include "common/error.h"
#include "kernels/cuda_ops.h"

namespace aerie {
namespace {

constexpr const char* kModule = "libaerie_cuda.so";

/// Beside the program (the build tree), or in lib/ beside its folder (an installation).
std::filesystem::path find_module() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const auto& folder : {program, program.parent_path() / "lib"}) {
    if (std::filesystem::exists(folder / kModule, ignored)) return folder / kModule;
  }
  fail(
      "--device cuda: {} is not in {}: build with -DAERIE_CUDA=ON (the default), or use --device "
      "cpu",
      kModule, program.string());
}

const CudaOps& load_module() {
  const auto path = find_module();
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  AERIE_CHECK(module != nullptr,
              "--device cuda: {}; run scripts/setup.sh and build again, or use --device cpu",
              dlerror());
  const auto entry = reinterpret_cast<CudaOpsEntry>(dlsym(module, kCudaOpsSymbol));
  AERIE_CHECK(entry != nullptr,
              "--device cuda: {} has no {}: it is of another version; build again", path.string(),
              kCudaOpsSymbol);
  return *entry();
}

int parse_index(const std::string& text) {
  int index = -1;
  const char *begin = text.data() + 5, *end = text.data() + text.size();
  const auto parsed = std::from_chars(begin, end, index);
  AERIE_CHECK(parsed.ec == std::errc() && parsed.ptr == end && index >= 0,
              "--device {}: give \"cpu\" or \"cuda:N\" with N from 0", text);
  return index;
}

}  // namespace

const CudaOps& cuda_ops() {
  static const CudaOps& ops = load_module();
  return ops;
}

at::Device parse_device(const std::string& text) {
  if (text == "cpu") return at::Device(at::kCPU);
  AERIE_CHECK(text == "cuda" || text.rfind("cuda:", 0) == 0,
              "--device {}: give \"cpu\" or \"cuda:N\"", text);
  const int index = text == "cuda" ? 0 : parse_index(text);
  const int count = cuda_ops().device_count();
  AERIE_CHECK(
      count > 0,
      "--device {}: no CUDA device found; check the driver with nvidia-smi, or use --device cpu",
      text);
  AERIE_CHECK(index < count,
              "--device {}: this machine has {} CUDA device(s): use cuda:0 to cuda:{}", text, count,
              count - 1);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

}  // namespace aerie
