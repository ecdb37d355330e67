#include "kernels/device.h"

#include <gmock/gmock.h>

#include "kernels/dtype.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string device_error(const std::string& text) {
  return testing::error_of([&] { parse_device(text); });
}

TEST(Device, CpuNeedsNothing) { EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU)); }

TEST(Device, AnythingElseIsRefusedByName) {
  for (const char* text : {"gpu", "", "CPU", "cuda0", "mps"}) {
    EXPECT_THAT(device_error(text),
                AllOf(HasSubstr("--device " + std::string(text)), HasSubstr("cuda:N")))
        << text;
  }
  for (const char* text : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x"}) {
    EXPECT_THAT(device_error(text), AllOf(HasSubstr(text), HasSubstr("N from 0"))) << text;
  }
}

TEST(Dtype, IsOneOfTwo) {
  EXPECT_EQ(parse_dtype("bfloat16"), at::kBFloat16);
  EXPECT_EQ(parse_dtype("float32"), at::kFloat);
  EXPECT_EQ(testing::error_of([] { parse_dtype("fp16"); }),
            "--dtype fp16 is not known: choose bfloat16 or float32");
}

// Where this build has no CUDA side, where the machine has no device, and where it has fewer.
TEST(Device, DeviceThatIsNotThereIsRefusedWithTheFix) {
  EXPECT_THAT(device_error("cuda:99"),
              AllOf(HasSubstr("--device cuda"),
                    ::testing::AnyOf(HasSubstr("use --device cpu"), HasSubstr("use cuda:0 to"))));
}

}  // namespace
}  // namespace aerie
