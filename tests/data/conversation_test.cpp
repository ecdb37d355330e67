#include "data/conversation.h"

#include <gmock/gmock.h>

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Json kTwoTurnRow =
    Json::parse(R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])");

TEST(Conversation, EveryFormGivesTheSameMessages) {
  for (
      const char* row :
      {R"({"id": "x", "conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})",
       R"({"id": "x", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})",
       R"({"id": "x", "messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "model", "content": "a"}]})",
       R"({"id": "x", "prompt": "q", "response": "a"})"}) {
    const Conversation conversation = parse_conversation(row);
    EXPECT_EQ(conversation.messages, kTwoTurnRow) << row;
    EXPECT_EQ(conversation.id, "x");
    EXPECT_FALSE(conversation.tokenised());
  }
}

TEST(Conversation, KeepsWhatTheTemplateMayNeed) {
  const Conversation conversation = parse_conversation(
      R"({"id": 7, "system": "s", "tools": "[{\"b\": 1, \"a\": 2}]", "messages": [
          {"role": "assistant", "content": null, "tool_calls": [{"z": 1, "a": 2}], "reasoning_content": "r"},
          {"from": "observation", "value": "o"}]})");
  EXPECT_EQ(conversation.id, "7");
  EXPECT_EQ(conversation.variables.dump(), R"({"tools":[{"b":1,"a":2}]})");
  EXPECT_EQ(
      conversation.messages.dump(),
      R"([{"role":"system","content":"s"},{"role":"assistant","content":null,"tool_calls":[{"z":1,"a":2}],)"
      R"("reasoning_content":"r"},{"role":"tool","content":"o"}])");
}

TEST(Conversation, Tokenised) {
  const Conversation conversation =
      parse_conversation(R"({"input_ids": [5, 6, 7], "loss_mask": [0, 1, true]})");
  EXPECT_TRUE(conversation.tokenised());
  EXPECT_THAT(conversation.input_ids, ElementsAre(5, 6, 7));
  EXPECT_THAT(conversation.loss_mask, ElementsAre(0, 1, 1));
}

TEST(Conversation, BadRowsHaveAReason) {
  const std::pair<const char*, const char*> rows[] = {
      {"{\"messages\": [", "not JSON"},
      {"\"text\"", "unknown form"},
      {"{\"question\": \"x\"}", "unknown form"},
      {R"({"messages": 3})", "unknown form"},
      {R"({"messages": []})", "empty conversation"},
      {R"({"messages": [{"content": "x"}]})", "a message has no role"},
      {R"({"messages": [{"role": "narrator", "content": "x"}]})", "unknown role"},
      {R"({"messages": [{"role": "user"}]})", "unknown form"},
      {R"({"messages": [{"role": "user", "content": 3}]})", "unknown form"},
      {R"({"prompt": 3})", "unknown form"},
      {R"({"input_ids": [1, 2], "loss_mask": [1]})", "loss_mask does not match"},
      {R"({"input_ids": [], "loss_mask": []})", "empty conversation"},
      {R"({"input_ids": ["a"], "loss_mask": [1]})", "unknown form"}};
  for (const auto& [row, reason] : rows) {
    try {
      parse_conversation(row);
      ADD_FAILURE() << "accepted: " << row;
    } catch (const RowError& e) {
      EXPECT_EQ(e.reason(), reason) << row << ": " << e.what();
      EXPECT_THAT(e.what(), HasSubstr(reason));
    }
  }
}

std::string spoken(const Json& messages) {
  std::string out;
  for (const Json& message : messages) out += message.at("content").get<std::string>() + " ";
  return out;
}

TEST(Conversation, PromptsEndBeforeTheAnswer) {
  const auto prompt = [](const char* row) {
    return spoken(prompt_messages(parse_conversation(row)));
  };
  EXPECT_EQ(
      prompt(
          R"({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                       {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]})"),
      "1 2 3 ");
  EXPECT_EQ(
      prompt(
          R"({"messages": [{"role": "system", "content": "0"}, {"role": "user", "content": "1"}]})"),
      "0 1 ");
  EXPECT_EQ(prompt(R"({"turns": ["1", "2"]})"), "1 ");
  EXPECT_EQ(prompt(R"({"prompt": "1"})"), "1 ");
  EXPECT_EQ(parse_conversation(R"({"question_id": 81, "turns": ["1"]})").id, "81");
  EXPECT_THROW(prompt(R"({"messages": [{"role": "assistant", "content": "1"}]})"), RowError);
}

TEST(Conversation, RegeneratedTurnByTurn) {
  for (const char* row :
       {R"({"turns": ["1", "3"]})", R"({"messages": [{"role": "user", "content": "1"},
           {"role": "assistant", "content": "old"}, {"role": "user", "content": "3"}, {"role": "assistant", "content": "old"}]})"}) {
    const Conversation conversation = parse_conversation(row);
    EXPECT_EQ(answer_count(conversation), 2);
    EXPECT_EQ(spoken(messages_before_answer(conversation, {})), "1 ");
    EXPECT_EQ(spoken(messages_before_answer(conversation, {"2"})), "1 2 3 ");
    EXPECT_THROW(messages_before_answer(conversation, {"2", "4"}), RowError);
  }
}

}  // namespace
}  // namespace aerie
