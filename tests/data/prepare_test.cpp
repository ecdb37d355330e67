// Rows to shards, vocabulary and packs: what must hold of them, and what must be refused.
#include "data/prepare.h"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "common/threads.h"
#include "data/packer.h"
#include "data/prepare_report.h"
#include "data/token_shards.h"
#include "tests/data/text_golden.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::Scratch;
using testing::smollm2_dir;

std::string row(int i, int words) {
  std::string answer;
  for (int w = 0; w < words; ++w) answer += fmt::format("word{} ", (i * 7 + w) % 50);
  return fmt::format(R"({{"id": "row{}", "prompt": "Question {}?", "response": "{}done"}})", i, i,
                     answer) +
         "\n";
}

std::string rows(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += row(i, 1 + (i * 13) % 40);
  return text;
}

PrepareOptions options_for(const Scratch& dir) {
  PrepareOptions options;
  options.model_dir = smollm2_dir();
  options.output = dir / "out";
  options.draft_vocab = 64;
  options.show_sample = false;
  return options;
}

TEST(Prepare, ShardsHoldWhatTheEncoderSays) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  options.train = {dir.write("a.jsonl", rows(700)), dir.write("b.json", "[" + row(700, 3) + "]")};
  options.heldout = {dir.write("h.jsonl", R"({"prompt": "q", "response": "a"})")};
  const PrepareReport report = prepare(options);
  EXPECT_EQ(report.train.rows, 701);
  EXPECT_EQ(report.heldout.documents, 1);
  EXPECT_FALSE(report.train.up_to_date);

  const TokenShards shards(PreparedData(options.output).train);
  ASSERT_EQ(shards.size(), 701);
  EXPECT_EQ(shards.tokens(), report.train.tokens);
  EXPECT_EQ(shards.supervised(), report.train.supervised);
  const Tokenizer tokenizer(smollm2_dir());
  const ChatTemplate chat_template(smollm2_dir());
  const ChatEncoder encoder(tokenizer, chat_template, {});
  for (const int i : {0, 511, 512, 700}) {
    const EncodedChat chat =
        encoder.encode(parse_conversation(row(i, i == 700 ? 3 : 1 + (i * 13) % 40)));
    const Document document = shards[i];
    EXPECT_EQ(document.name, fmt::format("row{}", i));
    ASSERT_EQ(document.ids.size(),
              chat.ids.size() - 1);  // the newline after the last turn trains nothing
    EXPECT_TRUE(std::equal(document.ids.begin(), document.ids.end(), chat.ids.begin()));
    EXPECT_TRUE(
        std::equal(document.assistant.begin(), document.assistant.end(), chat.assistant.begin()));
    EXPECT_EQ(document.assistant.back(), 1);
  }
  EXPECT_EQ(TokenShards(PreparedData(options.output).heldout)[0].name,
            (dir / "h.jsonl").string() + ":1");
}

TEST(Prepare, SecondRunDoesNothingUntilSomethingChanges) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  options.train = {dir.write("a.jsonl", rows(20))};
  const PrepareReport first = prepare(options);
  const fs::path index = PreparedData(options.output).train / "index.json";
  const auto written = fs::last_write_time(index);
  const PrepareReport second = prepare(options);
  EXPECT_TRUE(second.train.up_to_date);
  EXPECT_EQ(fs::last_write_time(index), written);
  EXPECT_EQ(second.train.tokens, first.train.tokens);
  EXPECT_EQ(second.train.lengths, first.train.lengths);
  EXPECT_EQ(second.vocabulary.hash, first.vocabulary.hash);

  options.draft_vocab = 32;  // the shards do not depend on it
  const PrepareReport smaller = prepare(options);
  EXPECT_TRUE(smaller.train.up_to_date);
  EXPECT_EQ(load_draft_vocabulary(PreparedData(options.output).vocabulary).size(), 32);
  options.chat.last_turn_only = true;
  EXPECT_FALSE(prepare(options).train.up_to_date);
  EXPECT_TRUE(prepare(options).train.up_to_date);
  dir.write("a.jsonl", rows(21));
  EXPECT_FALSE(prepare(options).train.up_to_date);
  write_file_atomic(PreparedData(options.output).train / "shard-00000.safetensors", "broken");
  EXPECT_FALSE(prepare(options).train.up_to_date);
  EXPECT_TRUE(prepare(options).train.up_to_date);
}

TEST(Prepare, SameBytesOnAnyNumberOfThreads) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  options.train = {dir.write("a.jsonl", rows(3000))};  // two batches
  const int usual = num_threads();
  std::vector<std::string> shards, vocabularies;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    options.output = dir / fmt::format("on-{}", threads);
    prepare(options);
    shards.push_back(read_file(PreparedData(options.output).train / "shard-00000.safetensors"));
    vocabularies.push_back(read_file(PreparedData(options.output).vocabulary));
  }
  set_num_threads(usual);
  EXPECT_TRUE(shards[1] == shards[0] && shards[2] == shards[0]);
  EXPECT_TRUE(vocabularies[1] == vocabularies[0] && vocabularies[2] == vocabularies[0]);
}

TEST(Prepare, BadRowsAreCountedShownAndLimited) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  options.train = {
      dir.write("a.jsonl", rows(8) + "{\"prompt\": \n" +
                               R"({"messages": [{"role": "narrator", "content": "x"}]})" + "\n")};
  EXPECT_THAT(
      error_of([&] { prepare(options); }),
      AllOf(HasSubstr("2 of 10 rows"), HasSubstr("1 x not JSON"), HasSubstr("1 x unknown role"),
            HasSubstr("a.jsonl:9: not JSON"), HasSubstr("a.jsonl:10: unknown role: \"narrator\""),
            HasSubstr("raise data.max_bad_rows")));
  EXPECT_FALSE(fs::exists(options.output / "train"));
  options.max_bad_rows = 0.2;
  const PrepareReport report = prepare(options);
  EXPECT_EQ(report.train.documents, 8);
  EXPECT_THAT(report.train.bad_rows, ElementsAre(Pair("not JSON", 1), Pair("unknown role", 1)));
}

TEST(Prepare, EveryReasonHasAnExample) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  std::string bad;
  for (int i = 0; i < 8; ++i) bad += "{\"prompt\": \n";
  bad += R"({"messages": [{"role": "narrator", "content": "x"}]})";
  options.train = {dir.write("a.jsonl", bad + "\n")};
  const std::string message = error_of([&] { prepare(options); });
  EXPECT_THAT(message, AllOf(HasSubstr("a.jsonl:5: not JSON"), HasSubstr("a.jsonl:9: unknown")));
  EXPECT_EQ(message.find("a.jsonl:6"), std::string::npos);
}

TEST(Prepare, LongRowsAreCutAtATurn) {
  Scratch dir;
  const std::string turn =
      R"({"role": "user", "content": "q"}, {"role": "assistant", "content": "one two three four"})";
  PrepareOptions options = options_for(dir);
  options.train = {
      dir.write("a.jsonl", fmt::format("{{\"messages\": [{}, {}, {}]}}\n", turn, turn, turn))};
  prepare(options);
  const int64_t whole = TokenShards(PreparedData(options.output).train)[0].size();
  options.max_length = whole - 1;
  const PrepareReport report = prepare(options);
  EXPECT_EQ(report.train.truncated, 1);
  const TokenShards shards(PreparedData(options.output).train);
  const Document cut = shards[0];
  EXPECT_LT(cut.size(), whole - 5);
  EXPECT_EQ(cut.ids.back(), 2);  // <|im_end|> of the second answer
  options.max_length = 5;        // not even the first answer
  EXPECT_THAT(error_of([&] { prepare(options); }),
              HasSubstr("nothing supervised after truncation"));
}

TEST(Prepare, BadInputIsNamed) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  EXPECT_THAT(error_of([&] { prepare(options); }), HasSubstr("data.train names no file"));
  options.train = {dir / "missing.jsonl"};
  EXPECT_THAT(error_of([&] { prepare(options); }),
              AllOf(HasSubstr("data.train"), HasSubstr("missing.jsonl does not exist")));
  options.train = {dir.write("empty.jsonl", "")};
  EXPECT_THAT(error_of([&] { prepare(options); }),
              AllOf(HasSubstr("empty.jsonl"), HasSubstr("no rows")));
  options.train = {dir.write("a.jsonl", rows(2))};
  options.draft_vocab = 0;
  EXPECT_THAT(error_of([&] { prepare(options); }), HasSubstr("draft.vocab_size is 0"));
  options.model_dir = dir / "nowhere";
  EXPECT_THAT(error_of([&] { prepare(options); }), HasSubstr("nowhere"));
}

TEST(Prepare, HeldOutDocumentsKeepTheirDomains) {
  Scratch dir;
  PrepareOptions options = options_for(dir);
  const std::string mixed = R"({"domain": "code", "prompt": "q", "response": "a"})"
                            "\n"
                            R"({"prompt": "q", "response": "a"})"
                            "\n"
                            R"({"category": "math", "prompt": "q", "response": "a"})"
                            "\n";
  options.train = {dir.write("a.jsonl", mixed)};
  options.heldout = {dir.write("h.jsonl", mixed)};
  prepare(options);
  const TokenShards heldout(PreparedData(options.output).heldout);
  EXPECT_TRUE(heldout.has_domains());
  EXPECT_EQ(heldout[0].domain, "code");
  EXPECT_EQ(heldout[1].domain, "");
  EXPECT_EQ(heldout[2].domain, "math");
  EXPECT_FALSE(TokenShards(PreparedData(options.output).train).has_domains());
}

TEST(LengthCount, PercentilesAndSteps) {
  LengthCount lengths;
  for (int64_t length = 100; length >= 1; --length) lengths.add(length);
  EXPECT_EQ(lengths.percentile(0.5), 50);
  EXPECT_EQ(lengths.percentile(0.99), 99);
  EXPECT_EQ(lengths.percentile(1), 100);
  EXPECT_EQ(lengths.largest(), 100);
  EXPECT_THAT(lengths.histogram(4), ElementsAre(25, 25, 25, 25));
}

TEST(TokenShards, SeveralShardsAndBrokenOnes) {
  Scratch dir;
  ShardWriter writer(dir / "s", 10);
  for (int32_t d = 0; d < 7; ++d) {
    const std::vector<int32_t> ids(static_cast<size_t>(d + 1), d);
    writer.add(ids, std::vector<uint8_t>(ids.size(), d % 2), fmt::format("doc{}", d));
  }
  writer.finish("key");
  const TokenShards shards(dir / "s");
  EXPECT_EQ(shards.size(), 7);
  EXPECT_EQ(shards.tokens(), 28);
  EXPECT_EQ(shards.supervised(), 12);
  EXPECT_EQ(shards.key(), "key");
  EXPECT_TRUE(fs::exists(dir / "s" / "shard-00001.safetensors"));
  for (int32_t d = 0; d < 7; ++d) {
    EXPECT_THAT(shards[d].ids, ::testing::Each(d));
    EXPECT_EQ(shards[d].size(), d + 1);
    EXPECT_EQ(shards[d].name, fmt::format("doc{}", d));
  }
  fs::copy_file(dir / "s" / "shard-00000.safetensors", dir / "s" / "shard-00001.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_of([&] { TokenShards broken(dir / "s"); }),
              HasSubstr("not what the index says"));
  fs::remove(dir / "s" / "index.json");
  EXPECT_THAT(error_of([&] { TokenShards broken(dir / "s"); }), HasSubstr("run aerie prepare"));
  EXPECT_THROW(ShardWriter(dir / "t").finish("key"), Error);
}

TEST(TokenShards, WhereDocumentsAreCut) {
  const std::vector<uint8_t> mask = {0, 0, 1, 1, 0, 0, 1, 1, 1, 0};
  const std::pair<int64_t, int64_t> limits[] = {{10, 10}, {20, 10}, {9, 9}, {8, 4},
                                                {5, 4},   {4, 4},   {3, 3}, {2, 2}};
  for (const auto& [limit, size] : limits) EXPECT_EQ(truncated_size(mask, limit), size) << limit;
}

TEST(DraftVocabulary, MostFrequentWithSpecialIdsForcedIn) {
  const std::vector<int64_t> counts = {0, 5, 9, 1, 5, 0, 2, 0};
  const DraftVocabulary vocabulary = make_draft_vocabulary(counts, 4, std::vector<int32_t>{7, 2});
  EXPECT_TRUE(vocabulary.draft_to_target.equal(at::tensor({1, 2, 4, 7}, at::kLong)));
  EXPECT_TRUE(vocabulary.d2t().equal(at::tensor({1, 1, 2, 4}, at::kLong)));
  EXPECT_TRUE((at::arange(4) + vocabulary.d2t()).equal(vocabulary.t2d().nonzero().flatten()));
  EXPECT_DOUBLE_EQ(vocabulary_coverage(counts, vocabulary), 19.0 / 22);
  EXPECT_DOUBLE_EQ(vocabulary_coverage(counts, make_draft_vocabulary(counts, 4, {})), 21.0 / 22);
  EXPECT_TRUE(make_draft_vocabulary(counts, 8, {}).d2t().equal(at::zeros({8}, at::kLong)));
  EXPECT_NE(make_draft_vocabulary(counts, 4, {}).hash, vocabulary.hash);
  EXPECT_THAT(error_of([&] { make_draft_vocabulary(counts, 9, {}); }), HasSubstr("give 1 to 8"));
  EXPECT_THAT(error_of([&] {
                make_draft_vocabulary(counts, 1, std::vector<int32_t>{1, 2});
              }),
              HasSubstr("do not fit"));
  EXPECT_THAT(error_of([&] { make_draft_vocabulary(counts, 4, std::vector<int32_t>{8}); }),
              HasSubstr("special id 8"));
}

TEST(DraftVocabulary, FilesAreChecked) {
  Scratch dir;
  std::vector<int64_t> counts(500);
  std::iota(counts.begin(), counts.end(), 0);
  const DraftVocabulary vocabulary = make_draft_vocabulary(counts, 100, std::vector<int32_t>{3});
  const fs::path file = dir / "v.safetensors";
  save_draft_vocabulary(file, vocabulary);
  const DraftVocabulary loaded = load_draft_vocabulary(file);
  EXPECT_TRUE(loaded.draft_to_target.equal(vocabulary.draft_to_target));
  EXPECT_EQ(loaded.hash, vocabulary.hash);
  const auto refused = [&](const at::Tensor& d2t, const at::Tensor& t2d) {
    return error_of([&] { draft_vocabulary_from(d2t, t2d, "file"); });
  };
  EXPECT_THAT(refused(vocabulary.d2t() + 450, vocabulary.t2d()),
              HasSubstr("leaves the target's vocabulary"));
  EXPECT_THAT(
      refused(vocabulary.d2t().index_fill(0, at::tensor({1}, at::kLong), 2), vocabulary.t2d()),
      HasSubstr("repeats an id"));
  EXPECT_THAT(refused(vocabulary.d2t(), vocabulary.t2d().logical_not()),
              HasSubstr("t2d does not mark"));
  EXPECT_THAT(refused(vocabulary.d2t().to(at::kInt), vocabulary.t2d()), HasSubstr("int64"));
  write_safetensors(file, {{"d2t", vocabulary.d2t()}, {"t2d", vocabulary.t2d()}}, {{"hash", "0"}});
  EXPECT_THAT(error_of([&] { load_draft_vocabulary(file); }), HasSubstr("the hash in the file"));
}

}  // namespace
}  // namespace aerie
