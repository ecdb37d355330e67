// Offline = online: the same batches, the same losses, the same weights, to the bit.
#include "trainer/stored_source.h"

#include <gmock/gmock.h>

#include "common/error.h"
#include "common/log.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/commands.h"
#include "trainer/online_source.h"
#include "trainer/run_data.h"
#include "trainer/run_sources.h"
#include "trainer/store_facts.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::kNoError;
using testing::Scratch;
using testing::tiny_run;

class StoredSourceTest : public ::testing::Test {
 protected:
  void SetUp() override { log_quiet(); }

  /// A run whose epochs make more than 50 steps.
  RunConfig run(const std::string& name, const std::string& mode) {
    RunConfig config = tiny_run(directory_.path(), name);
    config.train.epochs = 3;
    config.hidden_states.mode = mode;
    config.hidden_states.store = directory_.path() / "store";
    config.hidden_states.shard_bytes = 200'000;  // a few shards
    return config;
  }
  static DraftConfig draft(const RunConfig& config) {
    return draft_config_for(read_model_config(config.target.path), config.draft.vocab_size,
                            config.draft.layer_ids);
  }
  /// The bytes of the weights and moments that a run ends with, and its metrics without timings.
  static std::string end_of(const RunConfig& config) {
    const fs::path latest = config.output.dir / "latest";
    return read_file(latest / "masters.safetensors") + read_file(latest / "moments.safetensors");
  }
  static std::vector<double> losses_of(const RunConfig& config) {
    std::ifstream file(config.output.dir / "metrics.jsonl");
    std::vector<double> losses;
    for (std::string line; std::getline(file, line);) {
      const auto row = nlohmann::json::parse(line);
      if (row.contains("loss")) losses.push_back(row.at("loss"));
    }
    return losses;
  }

  Scratch directory_;
};

void expect_equal(const TrainBatch& left, const TrainBatch& right) {
  EXPECT_TRUE(at::equal(left.tokens, right.tokens));
  EXPECT_TRUE(at::equal(left.positions, right.positions));
  EXPECT_TRUE(at::equal(left.q_start, right.q_start));
  EXPECT_TRUE(at::equal(left.loss_mask, right.loss_mask));
  EXPECT_TRUE(at::equal(left.captured, right.captured));
  EXPECT_TRUE(at::equal(left.last_hidden, right.last_hidden));
  EXPECT_EQ(left.max_len, right.max_len);
  EXPECT_EQ(left.documents, right.documents);
  EXPECT_EQ(left.epoch, right.epoch);
}

TEST_F(StoredSourceTest, BatchesEqualOnlineBatchesToTheBit) {
  for (const char* dtype : {"bfloat16", "float32"}) {
    RunConfig config = run("dumped", "offline");
    config.hidden_states.store /= dtype;
    DumpFlags flags;
    flags.dtype = dtype;
    dump_command(config, flags);

    const auto target = load_target(config.target.path, at::kCPU,
                                    flags.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
    const TokenShards shards(PreparedData(config.data.cache).train);
    // The dump packed documents in their order; these packs are shuffled.
    RunSource offline(config, Split::kTrain, draft(config), *target, shards, 3);
    config.hidden_states.mode = "online";
    RunSource online(config, Split::kTrain, draft(config), *target, shards, 3);
    int batches = 0;
    for (;; ++batches) {
      EXPECT_EQ(offline.get().cursor(), online.get().cursor());
      const auto left = offline.get().next(), right = online.get().next();
      ASSERT_EQ(left.has_value(), right.has_value());
      if (!left) break;
      expect_equal(*left, *right);
    }
    EXPECT_EQ(batches, online.get().total_batches());
    EXPECT_GT(batches, 50);
  }
}

TEST_F(StoredSourceTest, SeekGoesToTheSameBatch) {
  const RunConfig config = run("dumped", "offline");
  dump_command(config, {});
  const auto target = load_target(config.target.path, at::kCPU, at::kBFloat16);
  const TokenShards shards(PreparedData(config.data.cache).train);
  RunSource source(config, Split::kTrain, draft(config), *target, shards, 1);
  source.get().next();
  source.get().next();
  const std::string here = source.get().cursor();
  const TrainBatch third = *source.get().next();
  source.get().next();
  source.get().seek(here);
  EXPECT_EQ(source.get().cursor(), here);
  expect_equal(*source.get().next(), third);
}

TEST_F(StoredSourceTest, OfflineAndHybridRunsEndWithTheWeightsOfAnOnlineRun) {
  const RunConfig online = run("online", "online"), offline = run("offline", "offline");
  RunConfig hybrid = run("hybrid", "hybrid");
  hybrid.hidden_states.store = directory_.path() / "hybrid_store";
  train_command(online, {}, {});
  dump_command(offline, {});
  train_command(offline, {}, {});
  train_command(hybrid, {}, {});
  const std::vector<double> losses = losses_of(online);
  EXPECT_GE(losses.size(), 50u);
  EXPECT_EQ(losses_of(offline), losses);
  EXPECT_EQ(losses_of(hybrid), losses);
  EXPECT_EQ(end_of(offline), end_of(online));
  EXPECT_EQ(end_of(hybrid), end_of(online));
}

TEST_F(StoredSourceTest, AFlippedByteMetWhileTrainingIsRefusedByName) {
  RunConfig config = run("offline", "offline");
  dump_command(config, {});
  const fs::path shard = config.hidden_states.store / "shard-00001.h5";
  std::string content = read_file(shard);
  char& byte = content[content.size() / 2];
  byte = static_cast<char>(byte ^ 4);
  write_file_atomic(shard, content);
  const std::pair<const char*, const char*> ways[] = {{"once", "its checksum is"},
                                                      {"never", "rows "}};
  for (const auto& [verify, reason] : ways) {
    config.hidden_states.verify = verify;
    config.output.dir = directory_ / verify;
    EXPECT_THAT(error_of([&] { train_command(config, {}, {}); }),
                AllOf(HasSubstr("shard-00001.h5 is damaged: "), HasSubstr(reason),
                      HasSubstr("run aerie dump")));
  }
  byte = static_cast<char>(byte ^ 4);
  write_file_atomic(shard, content);
  EXPECT_NO_THROW(train_command(config, {}, {}));
}

TEST_F(StoredSourceTest, ARunGoesOnInAnotherMode) {
  const RunConfig online = run("online", "online");
  train_command(online, {}, {});
  // Interrupted: the last checkpoint is taken away.
  fs::copy(online.output.dir, directory_.path() / "resumed",
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  RunConfig hybrid = run("resumed", "hybrid");
  fs::remove_all(hybrid.output.dir / fs::read_symlink(hybrid.output.dir / "latest"));
  fs::remove(hybrid.output.dir / "latest");
  train_command(hybrid, {}, {});
  EXPECT_EQ(end_of(hybrid), end_of(online));
}

TEST_F(StoredSourceTest, AHybridStoreServesOfflineRuns) {
  RunConfig hybrid = run("hybrid", "hybrid");
  hybrid.train.epochs = 1;
  train_command(hybrid, {}, {});
  RunConfig offline = run("offline", "offline");
  offline.train.epochs = 1;
  train_command(offline, {}, {});
  EXPECT_EQ(end_of(hybrid), end_of(offline));
}

TEST_F(StoredSourceTest, AnIncompleteStoreIsRefusedWithTheFirstDocument) {
  const RunConfig config = run("offline", "offline");
  DumpFlags flags;
  flags.parts = 2;
  dump_command(config, flags);
  const std::string message = error_of([&] { train_command(config, {}, {}); });
  EXPECT_THAT(message, HasSubstr("lacks "));
  EXPECT_THAT(message, HasSubstr("of 60 documents (the first: row-"));
  EXPECT_THAT(message, HasSubstr("run aerie dump"));
  flags.part = 1;
  dump_command(config, flags);
  EXPECT_EQ(error_of([&] { train_command(config, {}, {}); }), kNoError);
}

TEST_F(StoredSourceTest, AStoreOfAnotherTargetOrLayersIsRefusedByName) {
  const RunConfig config = run("offline", "offline");
  dump_command(config, {});

  RunConfig layers = config;
  layers.draft.layer_ids = {0, 3, 5};
  EXPECT_THAT(error_of([&] { train_command(layers, {}, {}); }),
              HasSubstr("draft.layer_ids: the store has [1, 3, 4], this run [0, 3, 5]"));

  // One more weight differs in one bit: a fine-tune.
  const fs::path weights = config.target.path / "model.safetensors";
  std::string bytes = read_file(weights);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file_atomic(weights, bytes);
  const std::string message = error_of([&] { train_command(config, {}, {}); });
  EXPECT_THAT(message, HasSubstr("manifest.json was not made for this run"));
  EXPECT_THAT(message, HasSubstr("target.path (content of its weights): the store has "));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("config.json):")));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file_atomic(weights, bytes);

  TrainFlags flags;
  flags.dtype = "float32";
  EXPECT_THAT(error_of([&] { train_command(config, flags, {}); }),
              HasSubstr("--dtype: the store has BFloat16, this run Float"));
}

/// Adds to a file; puts it back as it was.
class Edited {
 public:
  Edited(fs::path file, const std::string& more)
      : file_(std::move(file)), before_(read_file(file_)) {
    write_file_atomic(file_, before_ + more);
  }
  ~Edited() { write_file_atomic(file_, before_); }
  Edited(const Edited&) = delete;
  Edited& operator=(const Edited&) = delete;

 private:
  fs::path file_;
  std::string before_;
};

TEST_F(StoredSourceTest, AStoreOfAnotherTokenizerTemplateOrDataIsRefusedByName) {
  const RunConfig config = run("offline", "offline");
  const auto refusal = [&] { return error_of([&] { train_command(config, {}, {}); }); };
  const auto tokenizer = HasSubstr("target.path (its tokenizer and chat template): the store has ");
  const auto data = HasSubstr("data (its content and preparation): the store has ");
  dump_command(config, {});
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
    const Edited other(config.target.path / file, "\n");
    EXPECT_THAT(refusal(), tokenizer) << file;
  }
  {
    auto settings =
        nlohmann::ordered_json::parse(read_file(config.target.path / "tokenizer_config.json"));
    std::string chat_template = settings["chat_template"];
    chat_template.insert(0, "{{ 'Answer.\n' }}");
    write_file_atomic(config.target.path / "chat_template.jinja", chat_template);
    EXPECT_THAT(refusal(), ::testing::AllOf(tokenizer, data));
    fs::remove(config.target.path / "chat_template.jinja");
  }
  {
    const Edited longer(directory_ / "train.jsonl",
                        R"({"id": "new", "prompt": "hi", "response": "a new answer"})"
                        "\n");
    EXPECT_THAT(refusal(), ::testing::AllOf(data, ::testing::Not(tokenizer)));
  }
  EXPECT_EQ(refusal(), kNoError) << "everything is as it was";
}

}  // namespace
}  // namespace aerie
