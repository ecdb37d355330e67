// A run's page: what of its files appears there, and what a damaged or strange directory says.
#include "trainer/run_report.h"

#include <gmock/gmock.h>

#include "tests/testing.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using testing::Scratch;

constexpr const char* kTrainLine =
    R"({{"kind":"train","step":{0},"tokens":{0}00,"seconds":{0}.5,"lr":0.001,"grad_norm":1,"loss":{1},"loss_k":[{1},2],)"
    R"("acc_k":[0.5,0.25],"tau_sim":1.5,"tokens_per_second":800,"step_seconds":{{"source":1,"forward":3}}}})";
constexpr const char* kEvalLine =
    R"({{"kind":"eval","step":{0},"tokens":{0}00,"loss":2,"loss_k":[1,2],"acc_k":[0.5,0.25],"chain_k":[0.5,0.2],)"
    R"("tau_sim":1.75,"acceptance":{1},"acceptance_tree":2.34,"rate_by_depth":[0.6,0.4],)"
    R"("domains":{{"a<b":{{"loss":2,"tau_sim":1.9,"acceptance":1.6}}}}}})";

void write_run(const Scratch& dir, const std::string& name, double lr) {
  fs::create_directories(dir / name);
  std::string lines;
  for (int step : {1, 2}) lines += fmt::format(fmt::runtime(kTrainLine), step, 3.5 / step) + "\n";
  lines += fmt::format(fmt::runtime(kEvalLine), 1, 1.25) + "\n";
  lines += fmt::format(fmt::runtime(kEvalLine), 2, 1.21) + "\n";
  dir.write(name + "/metrics.jsonl", lines);
  dir.write(name + "/config.yaml",
            fmt::format("data:\n  train: [\"a.jsonl\", \"b.jsonl\"]\noptim:\n"
                        "  lr: {}\noutput:\n  dir: {}\n",
                        lr, name));
  dir.write(
      name + "/data.json",
      R"({"train": {"rows": 9, "documents": 8, "tokens": 800, "supervised": 400, "truncated": 1,
                "bad_rows": {"not JSON": 1}, "lengths": [10, 20, 30, 31], "histogram": [3, 5]},
                "vocabulary": [{"size": 64, "train": 0.97, "heldout": 0.9}, {"size": 8192, "train": 1.0}]})");
}

TEST(RunHistory, TakesTheBestByMeasuredAcceptance) {
  Scratch dir;
  write_run(dir, "one", 1e-3);
  const RunHistory run = read_history(dir / "one");
  EXPECT_EQ(run.name, "one");
  ASSERT_EQ(run.train.size(), 2u);
  EXPECT_EQ(run.train[1].tokens, 200);
  EXPECT_EQ(run.train[1].loss, 1.75);
  ASSERT_NE(run.best(), nullptr);
  EXPECT_EQ(run.best()->step, 1);
  EXPECT_THAT(run.settings, ElementsAre(Pair("data.train", "[\"a.jsonl\", \"b.jsonl\"]"),
                                        Pair("optim.lr", "0.001"), Pair("output.dir", "one")));
}

TEST(RunHistory, WhatAKillLeavesIsReadAndWhatIsNoRunIsNamed) {
  Scratch dir;
  write_run(dir, "run", 1e-3);
  dir.write("run/metrics.jsonl", read_file(dir / "run/metrics.jsonl") + "{\"kind\":\"tr");
  EXPECT_EQ(read_history(dir / "run").train.size(), 2u);
  dir.write("run/metrics.jsonl", "{\"kind\":\"train\",\"step\":1}\nnonsense\n");
  EXPECT_THAT(error_of([&] { read_history(dir / "run"); }),
              HasSubstr("metrics.jsonl:2: not a JSON"));
  EXPECT_THAT(error_of([&] { read_history(dir / "nowhere"); }), HasSubstr("nowhere is no run"));
}

TEST(RunReport, ShowsARunInFull) {
  Scratch dir;
  write_run(dir, "run", 1e-3);
  write_run_report({dir / "run"}, {});
  const std::string html = read_file(dir / "run/report.html");
  for (const char* part :
       {"1.25", "2.34", "guessing in trees", "measured in trees", "tau_sim", "Loss by depth",
        "Learning rate", "Tokens a second", "a&lt;b", "1.60", "50.0 %", "10 / 20 / 30 / 31",
        "1 × not JSON", "64 ids (this run)</td><td>97.00 %</td><td>90.00 %", "optim.lr"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http")), Not(HasSubstr("Settings that differ"))))
      << "the page needs nothing else";
}

TEST(RunReport, ComparesRunsAndSaysInWhatTheyDiffer) {
  Scratch dir;
  write_run(dir, "fast", 1e-3);
  write_run(dir, "slow", 1e-5);
  write_run_report({dir / "fast", dir / "slow"}, dir / "page.html");
  const std::string html = read_file(dir / "page.html");
  const size_t differ = html.find("Settings that differ");
  ASSERT_NE(differ, html.npos);
  const std::string table = html.substr(differ, html.find("</table>", differ) - differ);
  EXPECT_THAT(table, AllOf(HasSubstr("<td>optim.lr</td><td>0.001</td><td>1e-05</td>"),
                           Not(HasSubstr("data.train")), Not(HasSubstr("output.dir"))));
  EXPECT_THAT(html, HasSubstr("Measured acceptance over trained tokens"));
}

TEST(RunReport, ARunWithoutEvaluationsHasAPageToo) {
  Scratch dir;
  fs::create_directories(dir / "run");
  dir.write("run/metrics.jsonl", fmt::format(fmt::runtime(kTrainLine), 1, 3.5) + "\n");
  write_run_report({dir / "run"}, {});
  EXPECT_THAT(read_file(dir / "run/report.html"),
              AllOf(HasSubstr("Loss by depth"), Not(HasSubstr("nan"))));
}

}  // namespace
}  // namespace aerie
