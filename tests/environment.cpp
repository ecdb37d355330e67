// Linked into every room's tests: ATen on one thread, as the program runs it; the same random
// numbers in every run, whichever tests ran before; and where the files are.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/testing.h"

namespace aerie::testing {
namespace {

class SameDraws : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo& /*test*/) override { at::manual_seed(1); }
};

class OneAtenThread : public ::testing::Environment {
 public:
  void SetUp() override {
    at::set_num_threads(1);
    ::testing::UnitTest::GetInstance()->listeners().Append(new SameDraws);
  }
};
const ::testing::Environment* const environment =
    ::testing::AddGlobalTestEnvironment(new OneAtenThread);

}  // namespace

// The only source that knows the path: the objects of all others are the same in every checkout.
const fs::path& source_dir() {
  static const fs::path path = AERIE_SOURCE_DIR;
  return path;
}

const fs::path& test_dir() {
  static const fs::path path = source_dir() / "tests";
  return path;
}

}  // namespace aerie::testing
