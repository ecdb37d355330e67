// Text of a stream: the pieces joined are the whole, stop strings never show, characters never
// split.
#include "decoding/text_stream.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/testing.h"

namespace aerie {
namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer loaded(testing::smollm2_dir());
  return loaded;
}

struct Shown {
  std::string text;
  std::vector<std::string> pieces;
  std::string stop;
  int64_t tokens = 0;
};

Shown show(const std::vector<int32_t>& ids, TextRule rule) {
  TextStream stream(tokenizer(), std::move(rule));
  Shown shown;
  for (const int32_t id : ids) {
    if (stream.stopped()) break;
    shown.pieces.push_back(stream.push(id));
    ++shown.tokens;
  }
  shown.pieces.push_back(stream.finish());
  for (const std::string& piece : shown.pieces) shown.text += piece;
  if (stream.stopped()) shown.stop = stream.stop();
  return shown;
}

TextRule stops(std::vector<std::string> strings) {
  TextRule rule;
  rule.stops = std::move(strings);
  return rule;
}

std::vector<int32_t> ids_of(const std::string& text) { return tokenizer().encode(text).ids; }

TEST(TextStream, AStopStringIsFoundAcrossTokenBorders) {
  const std::vector<int32_t> ids = ids_of("One two three four five.");
  // "wo thr" begins and ends inside of tokens.
  const Shown shown = show(ids, stops({"wo thr"}));
  EXPECT_EQ(shown.text, "One t");
  EXPECT_EQ(shown.stop, "wo thr");
  EXPECT_LT(shown.tokens, static_cast<int64_t>(ids.size()));
}

TEST(TextStream, TheEarliestStopStringEndsTheTextAndIsShownOnRequestOnly) {
  const std::vector<int32_t> ids = ids_of("alpha beta gamma");
  EXPECT_EQ(show(ids, stops({"gamma", "beta"})).text, "alpha ");
  TextRule rule = stops({"gamma", "beta"});
  rule.include_stop = true;
  EXPECT_EQ(show(ids, rule).text, "alpha beta");
}

TEST(TextStream, WhatOnlyLooksLikeAStopStringIsShownInTheEnd) {
  const std::string text = "aab aaab END";
  EXPECT_EQ(show(ids_of(text), stops({"aaaab", "ENDED", "\n"})).text, text);
}

TEST(TextStream, NoPieceShowsAnyPartOfTheStopString) {
  const Shown shown = show(ids_of("Count: 1, 2, 3. Question: next"), stops({"Question:"}));
  EXPECT_EQ(shown.text, "Count: 1, 2, 3. ");
  for (const std::string& piece : shown.pieces) EXPECT_EQ(piece.find('Q'), std::string::npos);
}

TEST(TextStream, TextOfTheFirstTokensIsNotSearchedBelowMinTokens) {
  const std::vector<int32_t> ids = ids_of("no no no no");
  TextRule rule = stops({"no"});
  rule.min_tokens = 2;
  const Shown shown = show(ids, rule);
  EXPECT_EQ(shown.tokens, 3);
  EXPECT_EQ(shown.text, tokenizer().decode(std::span(ids).first(2), true) + " ");
}

TEST(TextStream, PiecesAreWholeCharactersAndJoinedAreTheWholeText) {
  const std::string text = "Grüße, 你好 🦅🦅 – ça va? ありがとう é\u0301";
  const std::vector<int32_t> ids = ids_of(text);
  const Shown shown = show(ids, stops({"never there"}));
  EXPECT_EQ(shown.text, tokenizer().decode(ids, true));
  EXPECT_EQ(shown.text, text);
  for (const std::string& piece : shown.pieces) {
    EXPECT_NO_THROW(nlohmann::json(piece).dump()) << "split character";
  }
}

TEST(TextStream, ARandomCutOfTheTokensChangesNothing) {
  std::mt19937 random(9);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> ids(1 + random() % 30);
    for (int32_t& id : ids) id = static_cast<int32_t>(17 + random() % 4000);
    const std::string whole = tokenizer().decode(ids, true);
    EXPECT_EQ(show(ids, {}).text, whole);
    if (whole.size() < 4) continue;
    // A stop string out of the text's middle (ASCII, so that it stands alone) cuts at its first
    // place.
    const std::string stop = whole.substr(whole.size() / 2, 2);
    if (static_cast<signed char>(stop[0]) < 0 || static_cast<signed char>(stop[1]) < 0) continue;
    EXPECT_EQ(show(ids, stops({stop})).text, whole.substr(0, whole.find(stop)));
  }
}

TEST(TextStream, AnEmptyStopStringIsRefused) {
  EXPECT_EQ(testing::error_of([] { TextStream(tokenizer(), stops({""})); }),
            "a stop string is empty");
}

}  // namespace
}  // namespace aerie
