// ATen on one thread, as the program runs it: a second pool of threads would only disturb.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace aerie {
namespace {

class SingleThreadedAten : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new SingleThreadedAten);

}  // namespace
}  // namespace aerie
