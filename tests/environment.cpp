// As the program runs: ATen on one thread.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace aerie::testing {
namespace {

class OneAtenThread : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};
const ::testing::Environment* const environment =
    ::testing::AddGlobalTestEnvironment(new OneAtenThread);

}  // namespace
}  // namespace aerie::testing
