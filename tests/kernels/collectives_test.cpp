// Ranks add up tensors, tell each other things, and say who is to blame.
#include "kernels/collectives.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

#include "kernels/network_address.h"
#include "tests/rank_threads.h"

namespace aerie {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::kNoError;
using testing::run_ranks;

TEST(Collectives, SumsAreTheSameBitsOnEveryRank) {
  for (const int count : {2, 3}) {
    std::vector<at::Tensor> sums(static_cast<size_t>(count));
    const auto errors = run_ranks(count, [&](Ranks& ranks) {
      // More than one message of Gloo's, and several at a time.
      const at::Tensor large = (at::arange(100'003, at::kFloat) * 0.1f).add_(ranks.rank() * 1e-3f);
      const at::Tensor small = at::full({1}, 1.0 + ranks.rank(), at::kDouble);
      ranks.start_sum(large);
      ranks.start_sum(small);
      ranks.finish_sums();
      EXPECT_EQ(small.item<double>(), count * (count + 1) / 2);
      sums[static_cast<size_t>(ranks.rank())] = large;
    });
    EXPECT_THAT(errors, Each(kNoError));
    for (const at::Tensor& sum : sums) {
      EXPECT_TRUE(sum.equal(sums[0]));
      EXPECT_NEAR(sum[100'000].item<double>(), count * 10'000.0, 0.01);
    }
  }
}

TEST(Collectives, TensorsGoFromOneToOthers) {
  const auto errors = run_ranks(3, [](Ranks& ranks) {
    const at::Tensor values = at::full({10}, ranks.rank(), at::kFloat);
    ranks.broadcast(values, 2);
    EXPECT_EQ(values.sum().item<float>(), 20.0f);
    if (ranks.rank() == 1) ranks.send(at::full({10}, 7, at::kFloat), 0);
    if (ranks.rank() == 0) ranks.receive(values, 1);
    EXPECT_EQ(values.sum().item<float>(), ranks.rank() == 0 ? 70.0f : 20.0f);
  });
  EXPECT_THAT(errors, Each(kNoError));
}

TEST(Collectives, TextsAreSharedAndGathered) {
  const auto errors = run_ranks(3, [](Ranks& ranks) {
    const std::string mine = fmt::format("of rank {}", ranks.rank());
    EXPECT_EQ(ranks.share(mine), "of rank 0");
    EXPECT_EQ(ranks.share(""), "");
    EXPECT_THAT(ranks.gather(mine), ElementsAre("of rank 0", "of rank 1", "of rank 2"));
  });
  EXPECT_THAT(errors, Each(kNoError));
}

TEST(Collectives, AloneNothingIsWaitedFor) {
  Ranks alone;
  const at::Tensor values = at::ones({3});
  alone.sum(values);
  alone.broadcast(values, 0);
  EXPECT_TRUE(values.equal(at::ones({3})));
  EXPECT_EQ(alone.share("a"), "a");
  EXPECT_THAT(alone.gather("b"), ElementsAre("b"));
  alone.leave();
}

TEST(Collectives, ARankThatNeverComesIsNamed) {
  const RankPlace place = testing::loopback_place(0, 3, testing::free_port());
  EXPECT_THAT(error_of([&] { Ranks(place, at::kCPU, std::chrono::seconds(1)); }),
              HasSubstr("of 3 ranks these have not come within 1 s (train.rank_timeout): 1, 2"));
}

TEST(Collectives, ARankThatLivesButDoesNotComeIsNamed) {
  const auto errors = run_ranks(
      2,
      [](Ranks& ranks) {
        // Rank 1 sits on its hands until rank 0 has found out.
        if (ranks.rank() == 1) return std::this_thread::sleep_for(std::chrono::seconds(6));
        ranks.sum(at::ones({1}));
      },
      std::chrono::seconds(2));
  EXPECT_THAT(errors[0], HasSubstr("rank 1 lives but does not come: it is 1 exchange(s) behind"));
}

TEST(Collectives, TheReasonOfARankThatGivesUpReachesTheOthers) {
  const auto errors = run_ranks(2, [](Ranks& ranks) {
    if (ranks.rank() == 1) {
      ranks.give_up("no space left on its device");
      fail("gave up");
    }
    ranks.sum(at::ones({1}));
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 1 ended: no space left on its device"));
}

/// Variables of the environment for as long as it lives.
class Variables {
 public:
  explicit Variables(std::map<std::string, std::string> values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : values_) ::unsetenv(name.c_str());
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;

 private:
  std::map<std::string, std::string> values_;
};

TEST(RankPlaceTest, IsWhatTheLauncherSays) {
  EXPECT_EQ(rank_place().ranks, 1);
  const Variables set({{"RANK", "3"},
                       {"WORLD_SIZE", "4"},
                       {"LOCAL_RANK", "1"},
                       {"LOCAL_WORLD_SIZE", "2"},
                       {"MASTER_ADDR", "10.0.0.1"},
                       {"MASTER_PORT", "29500"},
                       {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  const RankPlace place = rank_place();
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.ranks, 4);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_ranks, 2);
  EXPECT_EQ(place.master, "10.0.0.1");
  EXPECT_EQ(place.port, 29500);
  EXPECT_TRUE(place.launcher_serves);
}

TEST(RankPlaceTest, NamesTheVariableThatIsWrong) {
  const auto message = [](const std::map<std::string, std::string>& variables) {
    const Variables set(variables);
    return error_of([] { rank_place(); });
  };
  EXPECT_THAT(message({{"RANK", "0"}}), HasSubstr("WORLD_SIZE is not set: start with torchrun"));
  EXPECT_THAT(message({{"RANK", "2"}, {"WORLD_SIZE", "2"}}),
              HasSubstr("RANK is \"2\": it must be a number from 0 to 1"));
  EXPECT_THAT(message({{"RANK", "0"}, {"WORLD_SIZE", "two"}}), HasSubstr("WORLD_SIZE is \"two\""));
  EXPECT_THAT(message({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(message({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}),
              HasSubstr("MASTER_PORT is not set"));
}

TEST(NetworkAddress, IsTheOneTowardsRankZero) {
  EXPECT_EQ(own_address(testing::loopback_place(0, 2, 29500)), "127.0.0.1");
  RankPlace place = testing::loopback_place(0, 2, 29500);
  place.local_ranks = 1;  // the other one is on another machine
  EXPECT_THAT(error_of([&] { own_address(place); }), HasSubstr("GLOO_SOCKET_IFNAME"));
  place.master = "no.such.host.invalid";
  EXPECT_THAT(error_of([&] { own_address(place); }),
              HasSubstr("MASTER_ADDR no.such.host.invalid has no address"));
}

}  // namespace
}  // namespace aerie
