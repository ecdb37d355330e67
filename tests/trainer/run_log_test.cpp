// What a run writes while it trains. That TensorBoard reads it is shown by tests/cli/watch_test.py.
#include "trainer/run_log.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::Scratch;

TEST(EventFile, ChecksumsAreCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the check value of CRC-32C
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(EventFile, ARecordIsFramedByLengthAndChecksums) {
  const std::string record = tf_record("abc");
  ASSERT_EQ(record.size(), 8u + 4 + 3 + 4);
  uint64_t length = 0;
  std::memcpy(&length, record.data(), 8);
  EXPECT_EQ(length, 3u);
  EXPECT_EQ(record.substr(12, 3), "abc");
  EXPECT_NE(record.substr(15), tf_record("abd").substr(15));
  EXPECT_EQ(record.substr(0, 12), tf_record("abd").substr(0, 12));
}

TEST(RunLog, NumbersOfALineBecomeScalars) {
  const auto line = nlohmann::ordered_json::parse(
      R"({"kind": "eval", "step": 7, "loss": 2.5, "loss_k": [1, 2], "note": "x",
          "domains": {"code": {"tau_sim": 3, "acc_k": [0.5]}}})");
  EXPECT_THAT(
      scalars_of(line),
      ElementsAre(Pair("eval/loss", 2.5), Pair("eval/loss_k/0", 1), Pair("eval/loss_k/1", 2),
                  Pair("eval/domains/code/tau_sim", 3), Pair("eval/domains/code/acc_k/0", 0.5)));
}

TEST(RunLog, ASessionHasAnEventFileOfItsOwnThatSortsBehind) {
  Scratch dir;
  std::vector<fs::path> files;
  for (int64_t step : {1, 4}) {
    const EventFile file(dir / "tensorboard", step);
    files.push_back(file.path());
  }
  EXPECT_LT(files[0], files[1]);
  EXPECT_TRUE(fs::exists(files[0]));
  EXPECT_THAT(read_file(files[0]), HasSubstr("brain.Event:2"));
}

TEST(RunLog, MetricsAreCutWhereTheResumedRunGoesOn) {
  Scratch dir;
  int64_t position = 0;
  {
    RunLog log(dir.path(), 0, 0);
    log.write({{"kind", "train"}, {"step", 1}});
    position = log.position();
    log.write({{"kind", "train"}, {"step", 2}});
  }
  {
    RunLog log(dir.path(), 1, position);
    log.write({{"kind", "train"}, {"step", 2}, {"again", 1}});
  }
  EXPECT_EQ(read_file(dir / "metrics.jsonl"),
            "{\"kind\":\"train\",\"step\":1}\n{\"kind\":\"train\",\"step\":2,\"again\":1}\n");
}

TEST(RunLog, MetricsThatWereLostAreNamed) {
  Scratch dir;
  dir.write("metrics.jsonl", "{}\n");
  ::testing::internal::CaptureStderr();
  { const MetricsFile whole(dir / "metrics.jsonl", 3); }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  ::testing::internal::CaptureStderr();
  {
    MetricsFile cut(dir / "metrics.jsonl", 90);
    EXPECT_EQ(cut.position(), 3);
    cut.write("{}");
  }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("metrics.jsonl has 3 bytes where the checkpoint knew 90"));
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), "{}\n{}\n");
}

TEST(RunLog, APlaceThatCannotBeWrittenIsNamed) {
  Scratch dir;
  EXPECT_THAT(error_of([&] { RunLog(dir / "missing", 0, 0); }), HasSubstr("missing/metrics.jsonl"));
}

}  // namespace
}  // namespace aerie
