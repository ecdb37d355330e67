// What a resumed run must agree on, and what it may change where it is told so.
#include "trainer/run_facts.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Scratch;

const RunFacts kWas{{"a", "1"}, {"b (its content)", "2"}, {"c", "3"}};
const RunFacts kIs{{"a", "1"}, {"b (its content)", "4"}, {"c", "5"}, {"d", "6"}};

std::vector<std::string> check(const std::vector<std::string>& overrides) {
  return check_same_run("step-000001", kWas, kIs, overrides);
}

TEST(RunFacts, TheDiffNamesEveryField) {
  EXPECT_THAT(check_same_run("step-000001", kWas, kWas, {}), IsEmpty());
  EXPECT_THAT(error_of([&] { check({}); }),
              AllOf(HasSubstr("b (its content): was 2, is 4"), HasSubstr("c: was 3, is 5"),
                    HasSubstr("d: was (absent), is 6"), Not(HasSubstr("a: was")),
                    HasSubstr("--resume-override")));
}

RunFacts facts_of(const RunConfig& config) {
  return run_facts(config, {}, "target", "data", "vocabulary", at::kFloat);
}

TEST(RunFacts, HoldEveryKeyButThoseThatDecideNothing) {
  const RunFacts facts = facts_of({});
  for (const auto& [key, unused] : values_of({})) {
    const bool decides =
        key.starts_with("draft.") || key.starts_with("optim.") || key.starts_with("train.");
    const bool free = key == "draft.serve_with" || key == "train.log_every" ||
                      key == "train.checkpoint_every" || key == "train.keep_checkpoints" ||
                      key == "train.zero" || key == "train.rank_timeout";
    EXPECT_EQ(facts.contains(key), decides && !free) << key;
  }
}

TEST(RunFacts, AKeyThatACheckpointDoesNotKnowHadItsDefault) {
  RunConfig config;
  RunFacts was = facts_of(config);
  was.erase("train.feature_noise");
  EXPECT_EQ(facts_diff(was, facts_of(config)), "");
  config.train.feature_noise = 0.25;
  EXPECT_EQ(facts_diff(was, facts_of(config)), "\n  train.feature_noise: was 0, is 0.25");
}

TEST(RunFacts, EpochsDecideNothingWhereStepsAreCounted) {
  RunConfig config;
  config.train.max_steps = 10;
  RunConfig other = config;
  other.train.epochs = config.train.epochs + 1;
  EXPECT_EQ(facts_diff(facts_of(config), facts_of(other)), "");
}

TEST(RunFacts, AnOverrideLetsTheNamedFieldsDiffer) {
  EXPECT_THAT(check({"b", "c", "d"}), ElementsAre("b", "c", "d"));
  EXPECT_THAT(check({"a", "b", "c", "d"}), ElementsAre("b", "c", "d")) << "a does not differ";
  EXPECT_THAT(error_of([&] {
                check({"b", "d"});
              }),
              AllOf(HasSubstr("c: was 3"), Not(HasSubstr("b (its content): was"))));
}

TEST(RunFacts, AnOverrideThatCannotBeIsRefused) {
  EXPECT_THAT(
      error_of([&] { check({"eval.every"}); }),
      AllOf(HasSubstr("eval.every: a resumed run need not agree"), HasSubstr("a, b, c, d")));
  EXPECT_THAT(error_of([&] { check({"draft.vocab_size"}); }), HasSubstr("train.init_from"));
}

}  // namespace
}  // namespace aerie
