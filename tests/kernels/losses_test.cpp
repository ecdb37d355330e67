// How a mixture of losses is written, and what is refused.
#include "kernels/losses.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace aerie::ops {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ParseLoss, OneNameStandsAlone) {
  EXPECT_TRUE(parse_loss("kl", "train.loss").only_kl());
  EXPECT_TRUE(LossMix{}.only_kl());
  const LossMix mix = parse_loss(" lk_lambda ", "train.loss");
  EXPECT_EQ(mix.lk_lambda, 1);
  EXPECT_EQ(mix.kl, 0);
  EXPECT_FALSE(mix.only_kl());
}

TEST(ParseLoss, AMixtureAddsUp) {
  const LossMix mix = parse_loss("0.9 kl + 0.1tv+kl", "train.loss");
  EXPECT_DOUBLE_EQ(mix.kl, 1.9);
  EXPECT_DOUBLE_EQ(mix.tv, 0.1);
  EXPECT_FALSE(mix.only_kl());
}

TEST(ParseLoss, NamesTheKeyAndWhatThereIs) {
  for (const char* text : {"", "kll", "0.5", "kl +", "-1 kl", "0 tv", "nan kl", "kl tv", "0.5 "}) {
    EXPECT_THAT(aerie::testing::error_of([&] { parse_loss(text, "train.loss"); }),
                AllOf(HasSubstr("train.loss"), HasSubstr("kl, reverse_kl, js, ce, tv, lk_alpha")))
        << text;
  }
}

}  // namespace
}  // namespace aerie::ops
