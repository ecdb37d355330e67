#include "common/error.h"

#include <gtest/gtest.h>

namespace aerie {
namespace {

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Error, CarriesTheFormattedMessage) {
  EXPECT_EQ(message_of([] { fail("{} has {} rows", "a.jsonl", 3); }), "a.jsonl has 3 rows");
}

TEST(Error, CheckThrowsOnlyWhenTheConditionFails) {
  EXPECT_EQ(message_of([] { AERIE_CHECK(1 + 1 == 2, "never"); }), "(no error)");
  EXPECT_EQ(message_of([] { AERIE_CHECK(1 + 1 == 3, "{} != 3", 1 + 1); }), "2 != 3");
}

TEST(Error, CheckIsOneStatement) {
  const auto branch = [](bool first) {
    if (first)
      AERIE_CHECK(false, "first");
    else
      AERIE_CHECK(false, "second");
  };
  EXPECT_EQ(message_of([&] { branch(true); }), "first");
  EXPECT_EQ(message_of([&] { branch(false); }), "second");
}

}  // namespace
}  // namespace aerie
