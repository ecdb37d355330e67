#include "kernels/device.h"

#include <gmock/gmock.h>

#include "common/error.h"

namespace aerie {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    return "parsed as " + parse_device(text).str();
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Device, CpuNeedsNothing) { EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU)); }

TEST(Device, AnythingElseIsRefusedByName) {
  for (const char* text : {"gpu", "", "CPU", "cuda0", "mps"}) {
    EXPECT_THAT(error_of(text),
                AllOf(HasSubstr("--device " + std::string(text)), HasSubstr("cuda:N")))
        << text;
  }
  for (const char* text : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x"}) {
    EXPECT_THAT(error_of(text), AllOf(HasSubstr(text), HasSubstr("N from 0"))) << text;
  }
}

// Where this build has no CUDA side, where the machine has no device, and where it has fewer.
TEST(Device, DeviceThatIsNotThereIsRefusedWithTheFix) {
  EXPECT_THAT(error_of("cuda:99"),
              AllOf(HasSubstr("--device cuda"),
                    testing::AnyOf(HasSubstr("use --device cpu"), HasSubstr("use cuda:0 to"))));
}

}  // namespace
}  // namespace aerie
