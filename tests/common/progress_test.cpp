#include "common/progress.h"

#include <gmock/gmock.h>

namespace aerie {
namespace {

using ::testing::HasSubstr;

// ctest gives no terminal, so these are the log lines.
class ProgressTest : public ::testing::Test {
 protected:
  static std::string shown(const std::function<void()>& body) {
    ::testing::internal::CaptureStderr();
    body();
    return ::testing::internal::GetCapturedStderr();
  }
};

TEST_F(ProgressTest, EndsWithOneLineOfTheLastState) {
  const std::string text = shown([] {
    Progress progress("train", 200, "steps");
    for (int step = 1; step <= 150; ++step) progress.update(step, "loss 2.31");
    progress.finish();
    progress.finish();
  });
  EXPECT_THAT(text, HasSubstr("train"));
  EXPECT_THAT(text, HasSubstr("150/200 steps"));
  EXPECT_THAT(text, HasSubstr("loss 2.31"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(ProgressTest, DestructorFinishes) {
  const std::string text = shown([] { Progress("dump", 0, "tokens").update(12345); });
  EXPECT_THAT(text, HasSubstr("dump"));
  EXPECT_THAT(text, HasSubstr("12345 tokens"));
}

}  // namespace
}  // namespace aerie
