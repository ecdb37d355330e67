#include "decoding/page_table.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

#include "common/error.h"

namespace aerie {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Sequence sequence_with_id(int64_t id) {
  Sequence sequence;
  sequence.id = id;
  return sequence;
}

std::vector<int32_t> first_rows(int32_t count) {
  std::vector<int32_t> keep;
  for (int32_t row = 0; row < count; ++row) keep.push_back(row);
  return keep;
}

TEST(PageTable, ReservesWholePagesOrNothing) {
  PageTable table(3);
  Sequence a = sequence_with_id(1), b = sequence_with_id(2);
  EXPECT_TRUE(table.reserve(a, 17));
  EXPECT_EQ(a.pages.size(), 2u);
  EXPECT_FALSE(table.reserve(b, 17));
  EXPECT_TRUE(b.pages.empty());
  EXPECT_TRUE(table.reserve(b, 16));
  EXPECT_EQ(table.free(), 0);
  EXPECT_EQ(PageTable::slot(a, 16), a.pages[1] * 16);
}

TEST(PageTable, WhatMediaArePartOfIsNeitherPublishedNorFound) {
  PageTable table(8);
  Sequence text = sequence_with_id(1), picture = sequence_with_id(2);
  picture.request.media.resize(1);
  for (Sequence* sequence : {&picture, &text}) {
    sequence->tokens.assign(20, 7);
    ASSERT_TRUE(table.reserve(*sequence, 16));
    sequence->written = 16;
    table.commit(*sequence, first_rows(16));
    table.publish(*sequence, 16);
    EXPECT_EQ(table.published(), sequence == &text ? 1 : 0);
  }
  EXPECT_EQ(table.matching_pages(text), 1);
  EXPECT_EQ(table.matching_pages(picture), 0);
}

TEST(PageTable, CommitKeepsAPrefixAndReturnsThePagesBehind) {
  PageTable table(4);
  Sequence a = sequence_with_id(1);
  ASSERT_TRUE(table.reserve(a, 40));
  a.written = 40;
  EXPECT_TRUE(table.commit(a, first_rows(16)).empty());
  EXPECT_EQ(a.committed, 16);
  EXPECT_EQ(a.written, 16);
  EXPECT_EQ(a.pages.size(), 1u);
  EXPECT_EQ(table.free(), 3);
}

TEST(PageTable, CommitOfATreePathMovesItsRowsTogether) {
  PageTable table(4);
  Sequence a = sequence_with_id(1);
  ASSERT_TRUE(table.reserve(a, 14));
  a.written = 14;
  table.commit(a, first_rows(14));
  ASSERT_TRUE(table.reserve(a, 20));
  a.written = 20;
  const auto moves = table.commit(a, std::vector<int32_t>{0, 2, 5});
  const auto slot = [&](int64_t i) { return PageTable::slot(a, i); };
  ASSERT_EQ(moves.size(), 2u);
  EXPECT_EQ(moves[0].second, slot(15));
  EXPECT_EQ(moves[1].second, slot(16));
  EXPECT_EQ(moves[0].first, slot(16));
  EXPECT_EQ(a.committed, 17);
}

TEST(PageTable, RefusesRowsThatWereNeverWritten) {
  PageTable table(4);
  Sequence a = sequence_with_id(1);
  ASSERT_TRUE(table.reserve(a, 4));
  a.written = 4;
  EXPECT_THAT([&] { table.commit(a, first_rows(5)); },
              ThrowsMessage<Error>(HasSubstr("never written")));
}

TEST(PageTable, DetectsADoubleFree) {
  PageTable table(4);
  Sequence a = sequence_with_id(1);
  ASSERT_TRUE(table.reserve(a, 32));
  Sequence copy = a;
  table.release(a);
  EXPECT_THAT([&] { table.release(copy); }, ThrowsMessage<Error>(HasSubstr("it is free already")));
}

TEST(PageTable, DetectsALeak) {
  PageTable table(4);
  Sequence a = sequence_with_id(1);
  ASSERT_TRUE(table.reserve(a, 32));
  a.pages.pop_back();
  const std::vector<const Sequence*> all{&a};
  EXPECT_THAT([&] { table.check(all); }, ThrowsMessage<Error>(HasSubstr("leak")));
}

TEST(PageTable, SurvivesTenThousandRandomOperations) {
  PageTable table(40);
  std::map<int64_t, Sequence> live;
  std::mt19937 random(3);
  for (int64_t turn = 0; turn < 10000; ++turn) {
    const int64_t id = random() % 8;
    Sequence& sequence = live.try_emplace(id, sequence_with_id(id)).first->second;
    const int64_t rows = 1 + random() % 60;
    const int64_t before = table.free();
    if (random() % 5 == 0) {
      table.release(sequence);
    } else if (table.reserve(sequence, sequence.committed + rows)) {
      sequence.written = sequence.committed + rows;
      table.commit(sequence, first_rows(static_cast<int32_t>(random() % (rows + 1))));
      EXPECT_EQ(static_cast<int64_t>(sequence.pages.size()),
                PageTable::pages_for(sequence.committed));
    } else {
      EXPECT_EQ(table.free(), before);
    }
    std::vector<const Sequence*> all;
    for (const auto& [key, each] : live) all.push_back(&each);
    table.check(all);
  }
  for (auto& [id, sequence] : live) table.release(sequence);
  EXPECT_EQ(table.free(), table.total());
}

}  // namespace
}  // namespace aerie
