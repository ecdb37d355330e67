#include "common/error.h"

#include <gtest/gtest.h>

#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;

TEST(Error, CarriesTheFormattedMessage) {
  EXPECT_EQ(error_of([] { fail("{} has {} rows", "a.jsonl", 3); }), "a.jsonl has 3 rows");
}

TEST(Error, CheckThrowsOnlyWhenTheConditionFails) {
  EXPECT_EQ(error_of([] { AERIE_CHECK(1 + 1 == 2, "never"); }), "no error was thrown");
  EXPECT_EQ(error_of([] { AERIE_CHECK(1 + 1 == 3, "{} != 3", 1 + 1); }), "2 != 3");
}

TEST(Error, CheckIsOneStatement) {
  const auto branch = [](bool first) {
    if (first)
      AERIE_CHECK(false, "first");
    else
      AERIE_CHECK(false, "second");
  };
  EXPECT_EQ(error_of([&] { branch(true); }), "first");
  EXPECT_EQ(error_of([&] { branch(false); }), "second");
}

}  // namespace
}  // namespace aerie
