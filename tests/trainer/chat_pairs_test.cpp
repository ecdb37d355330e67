// From a chat as a user has it to the (row, depth) pairs that train: SmolLM2's template and
// tokenizer, `aerie prepare`, the packer and the unroll plan in one.
#include <gmock/gmock.h>

#include "common/log.h"
#include "data/prepare.h"
#include "data/token_shards.h"
#include "data/tokenizer.h"
#include "tests/testing.h"
#include "trainer/pack_sequence.h"
#include "trainer/unroll_plan.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;

constexpr const char* kTwoTurnChat =
    R"({"id": "two turns", "messages": [{"role": "system", "content": "Be brief."},
{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."},
{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "So long!"}]})";

/// The chat on one line, as a file of rows has it.
std::string one_row() {
  std::string line = kTwoTurnChat;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "\n";
}

int64_t at_index(const Tensor& tensor, int64_t index) { return tensor[index].item<int64_t>(); }

/// "row: what it reads -> what it is to guess", of every pair of a depth.
std::vector<std::string> pairs_of(const UnrollPlan& plan, size_t k, const Tensor& tokens,
                                  const Tokenizer& tokenizer) {
  const auto text = [&](int64_t place) {
    return tokenizer.id_to_token(static_cast<int32_t>(at_index(tokens, place)));
  };
  int64_t first = 0;  // of this depth's pairs
  for (size_t above = 0; above < k; ++above) first += plan.depths[above].count;
  std::vector<std::string> pairs;
  for (int64_t i = 0; i < plan.depths[k].count; ++i) {
    const int64_t row = at_index(plan.base_rows, at_index(plan.depths[k].rows, i));
    // The teacher's row says what comes behind the token that the draft has just read.
    const int64_t label = at_index(plan.teacher_rows, at_index(plan.teacher_row, first + i));
    pairs.push_back(fmt::format("{}: {} -> {}", row, text(label), text(label + 1)));
  }
  return pairs;
}

TEST(ChatPairs, OfATwoTurnChatAreThoseOfItsAnswersEndOfTurnIncluded) {
  log_quiet();
  const testing::Scratch directory;
  PrepareOptions options;
  options.model_dir = testing::smollm2_dir();
  options.output = directory / "data";
  options.train = {directory.write("train.jsonl", one_row())};
  options.draft_vocab = 64;
  options.show_sample = false;
  prepare(options);
  const TokenShards shards(PreparedData(options.output).train);
  PackSequence packs(shards, {}, 1);
  const PackedTokens packed = packs.gather(*packs.next());
  const UnrollPlan plan =
      plan_unroll(packed.tokens, packed.positions, packed.loss_mask, packed.q_start, 7);

  // 18 Hello, 19 there, 20 ., 21 end of turn; 34 So, 35 long, 36 !, 37 end of turn. The first token
  // of an answer is no guess of the draft's: the target has said it by then. Nothing guesses a
  // header, or the newline behind an end of turn.
  const Tokenizer tokenizer(testing::smollm2_dir());
  ASSERT_EQ(plan.depths.size(), 3u);
  EXPECT_THAT(pairs_of(plan, 0, packed.tokens, tokenizer),
              ElementsAre("17: Hello -> Ġthere", "18: Ġthere -> .", "19: . -> <|im_end|>",
                          "33: So -> Ġlong", "34: Ġlong -> !", "35: ! -> <|im_end|>"));
  EXPECT_THAT(pairs_of(plan, 1, packed.tokens, tokenizer),
              ElementsAre("17: Ġthere -> .", "18: . -> <|im_end|>", "33: Ġlong -> !",
                          "34: ! -> <|im_end|>"));
  EXPECT_THAT(pairs_of(plan, 2, packed.tokens, tokenizer),
              ElementsAre("17: . -> <|im_end|>", "33: ! -> <|im_end|>"));
  EXPECT_EQ(plan.pairs, 12);
}

}  // namespace
}  // namespace aerie
