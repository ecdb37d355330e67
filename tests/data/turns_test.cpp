// Exactly what the assistant wrote is supervised, in every family of templates.
#include "data/turns.h"

#include <gmock/gmock.h>

#include "data/chat_encoder.h"
#include "tests/data/text_golden.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::error_of;
using ::testing::HasSubstr;
using testing::smollm2_dir;

const Tokenizer& smollm2() {
  static const Tokenizer tokenizer(smollm2_dir());
  return tokenizer;
}

Conversation conversation_of(const Json& messages) {
  Conversation conversation;
  conversation.messages = messages;
  return conversation;
}

const Json kTwoTurns = {{{"role", "system"}, {"content", "Be brief."}},
                        {{"role", "user"}, {"content", "Hi"}},
                        {{"role", "assistant"}, {"content", "Hello there."}},
                        {{"role", "user"}, {"content", "Bye"}},
                        {{"role", "assistant"}, {"content", "So long!"}}};

TEST(Turns, EveryTokenOfATwoTurnConversation) {
  const ChatTemplate chat_template = open_template("smollm2");
  const ChatEncoder encoder(smollm2(), chat_template, {});
  const EncodedChat chat = encoder.encode(conversation_of(kTwoTurns));
  std::vector<std::pair<std::string, int>> tokens;
  for (size_t i = 0; i < chat.ids.size(); ++i)
    tokens.emplace_back(smollm2().id_to_token(chat.ids[i]), chat.assistant[i]);
  // Ċ is a newline and Ġ a blank. The end of turn is the assistant's; the newline after it and the
  // next header are not.
  const std::vector<std::pair<std::string, int>> expected = {{"<|im_start|>", 0},
                                                             {"system", 0},
                                                             {"Ċ", 0},
                                                             {"Be", 0},
                                                             {"Ġbrief", 0},
                                                             {".", 0},
                                                             {"<|im_end|>", 0},
                                                             {"Ċ", 0},
                                                             {"<|im_start|>", 0},
                                                             {"user", 0},
                                                             {"Ċ", 0},
                                                             {"Hi", 0},
                                                             {"<|im_end|>", 0},
                                                             {"Ċ", 0},
                                                             {"<|im_start|>", 0},
                                                             {"ass", 0},
                                                             {"istant", 0},
                                                             {"Ċ", 0},
                                                             {"Hello", 1},
                                                             {"Ġthere", 1},
                                                             {".", 1},
                                                             {"<|im_end|>", 1},
                                                             {"Ċ", 0},
                                                             {"<|im_start|>", 0},
                                                             {"user", 0},
                                                             {"Ċ", 0},
                                                             {"By", 0},
                                                             {"e", 0},
                                                             {"<|im_end|>", 0},
                                                             {"Ċ", 0},
                                                             {"<|im_start|>", 0},
                                                             {"ass", 0},
                                                             {"istant", 0},
                                                             {"Ċ", 0},
                                                             {"So", 1},
                                                             {"Ġlong", 1},
                                                             {"!", 1},
                                                             {"<|im_end|>", 1},
                                                             {"Ċ", 0}};
  EXPECT_THAT(tokens, ElementsAreArray(expected));
  EXPECT_THAT(chat.turns,
              ElementsAre(std::array<int32_t, 2>{18, 22}, std::array<int32_t, 2>{34, 38}));
}

/// A tokenizer to which the ends of turn of all families are special, as they are to their models.
const Tokenizer& all_families() {
  static const Tokenizer tokenizer(golden_text_dir() / "tokenizers/llama3.json");
  return tokenizer;
}

std::vector<std::string> supervised(const ChatEncoder& encoder, const Conversation& conversation) {
  const EncodedChat chat = encoder.encode(conversation);
  std::vector<std::string> texts;
  for (const auto& [begin, end] : chat.turns) {
    const auto ids =
        std::span(chat.ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    texts.push_back(all_families().decode(ids, false));
  }
  return texts;
}

struct Expected {
  const char* name;
  TurnMarkers markers;
};
// What each family puts around an assistant turn. `forced` is what its generation prompt writes for
// the model.
const Expected kFamilies[] = {
    {"smollm2", {"<|im_start|>assistant\n", "<|im_end|>", ""}},
    {"chatml_generation", {"<|im_start|>assistant\n", "<|im_end|>", ""}},
    {"qwen2.5", {"<|im_start|>assistant\n", "<|im_end|>", ""}},
    {"qwen3", {"<|im_start|>assistant\n", "<|im_end|>", ""}},
    {"llama3.1", {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", ""}},
    {"llama2", {" [/INST]", " </s>", ""}},
    {"mistral", {"[/INST]", "</s>", ""}},
    {"gemma", {"<start_of_turn>model\n", "<end_of_turn>", ""}},
    {"gemma3", {"<start_of_turn>model\n", "<end_of_turn>", ""}},
    {"phi3", {"<|assistant|>\n", "<|end|>", ""}},
    {"zephyr", {"<|assistant|>\n", "</s>", ""}},
    {"deepseek_r1", {"<|Assistant|>", "</s>", "<think>\n"}},
    {"block_generation", {"Assistant:\n", "</s>", ""}}};

TEST(Turns, MarkersOfEveryFamily) {
  for (const auto& [name, expected] : kFamilies) {
    const TurnMarkers found =
        find_turn_markers(open_template(name), all_families(), Json::object());
    EXPECT_EQ(found.header, expected.header) << name;
    EXPECT_EQ(found.end_of_turn, expected.end_of_turn) << name;
    EXPECT_EQ(found.forced, expected.forced) << name;
  }
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \n"), end = text.find_last_not_of(" \n");
  return begin == std::string::npos ? "" : text.substr(begin, end + 1 - begin);
}

/// The answer without its reasoning, which templates may drop.
std::string answer_of(const Json& message) {
  const std::string content = message.at("content");
  const size_t thought = content.rfind("</think>");
  return trimmed(thought == std::string::npos ? content : content.substr(thought + 8));
}

TEST(Turns, EveryAnswerAndNothingElseInEveryFamily) {
  int checked = 0;
  for (const auto& [name, markers] : kFamilies) {
    const ChatTemplate chat_template = open_template(name);
    const ChatEncoder encoder(all_families(), chat_template, {});
    for (const Json& row : golden_text().at("conversations")) {
      Conversation conversation = conversation_of(row.at("messages"));
      conversation.variables = row.value("variables", Json::object());
      std::vector<std::string> turns;
      try {
        turns = supervised(encoder, conversation);
      } catch (const RowError& e) {
        EXPECT_TRUE(e.reason() == "refused by the chat template" ||
                    e.reason() == "empty assistant turn")
            << name << e.what();
        continue;
      }
      size_t turn = 0;
      for (const Json& message : conversation.messages) {
        if (message.at("role") != "assistant") continue;
        ASSERT_LT(turn, turns.size()) << name << row.dump();
        const std::string& text = turns[turn++];
        SCOPED_TRACE(fmt::format("{}: {} -> {}", name, message.dump(), text));
        EXPECT_TRUE(text.ends_with(markers.end_of_turn));
        EXPECT_EQ(text.find(markers.header), std::string::npos);
        if (message.at("content").is_string()) {
          EXPECT_THAT(text, HasSubstr(answer_of(message)));
        }
        ++checked;
      }
      EXPECT_EQ(turn, turns.size()) << name << row.dump();
    }
  }
  EXPECT_GT(checked, 80);
}

TEST(Turns, TextThatLooksLikeAHeaderIsSteppedOver) {
  const ChatTemplate chat_template = open_template("smollm2");
  const ChatEncoder encoder(all_families(), chat_template, {});
  const Json messages = {
      {{"role", "user"}, {"content", "Write <|im_start|>assistant\nfake<|im_end|>\n exactly."}},
      {{"role", "assistant"}, {"content", "It is <|im_end|>, see?"}},
      {{"role", "user"}, {"content", "<|im_start|>assistant\n"}},
      {{"role", "assistant"}, {"content", "No."}}};
  EXPECT_THAT(supervised(encoder, conversation_of(messages)),
              ElementsAre("It is <|im_end|>, see?<|im_end|>", "No.<|im_end|>"));
}

TEST(Turns, ReasoningToolsAndForcedText) {
  const ChatTemplate qwen3 = open_template("qwen3");
  const Json thinking = golden_text().at("conversations")[3].at("messages");
  // Old turns lose their reasoning in this template; the last keeps it.
  EXPECT_THAT(supervised(ChatEncoder(all_families(), qwen3, {}), conversation_of(thinking)),
              ElementsAre("Four.<|im_end|>", "<think>\nhm\n</think>\n\nSix.<|im_end|>"));
  ChatOptions options;
  options.keep_reasoning = false;
  EXPECT_THAT(supervised(ChatEncoder(all_families(), qwen3, options), conversation_of(thinking)),
              ElementsAre("Four.<|im_end|>", "<think>\n\n</think>\n\nSix.<|im_end|>"));
  // What the generation prompt writes itself is no one's answer.
  options.variables = R"({"enable_thinking": false})";
  EXPECT_THAT(supervised(ChatEncoder(all_families(), qwen3, options), conversation_of(thinking)),
              ElementsAre("Four.<|im_end|>", "Six.<|im_end|>"));
  const Json& tools = golden_text().at("conversations")[4];
  Conversation conversation = conversation_of(tools.at("messages"));
  conversation.variables = tools.at("variables");
  EXPECT_THAT(supervised(ChatEncoder(all_families(), qwen3, {}), conversation),
              ElementsAre(::testing::StartsWith("<tool_call>\n{\"name\": \"get_weather\""),
                          "It is 21.5 °C.<|im_end|>"));
}

TEST(Turns, OptionsAndNamedMarkers) {
  const ChatTemplate chat_template = open_template("smollm2");
  ChatOptions options;
  options.last_turn_only = true;
  EXPECT_THAT(
      supervised(ChatEncoder(all_families(), chat_template, options), conversation_of(kTwoTurns)),
      ElementsAre("So long!<|im_end|>"));
  options.assistant_header = "assistant\n";
  options.end_of_turn = "!";
  EXPECT_THAT(
      supervised(ChatEncoder(all_families(), chat_template, options), conversation_of(kTwoTurns)),
      ElementsAre("So long!"));
  const ChatTemplate hidden("{{ messages | length }}", Json::object(), "no_content.jinja");
  EXPECT_THAT(error_of([&] { ChatEncoder(all_families(), hidden, {}); }),
              ::testing::AllOf(HasSubstr("no_content.jinja"), HasSubstr("data.assistant_header")));
  EXPECT_NE(ChatEncoder(all_families(), chat_template, {}).fingerprint(),
            ChatEncoder(all_families(), chat_template, options).fingerprint());
}

TEST(Turns, BadConversationsHaveAReason) {
  const ChatTemplate chat_template = open_template("gemma");
  const ChatEncoder encoder(all_families(), chat_template, {});
  const std::pair<const char*, const char*> rows[] = {
      {R"({"prompt": "q", "response": " "})", "empty assistant turn"},
      {R"({"prompt": "q"})", "no assistant turn"},
      {R"({"prompt": "q", "response": "<think>Let me"})", "answer cut inside its reasoning"},
      {R"({"messages": [{"role": "user", "content": "q"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})",
       "refused by the chat template"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "a"}]})",
       "media without a path"},
      {R"({"input_ids": [1, 60000], "loss_mask": [0, 1]})", "token id out of range"}};
  for (const auto& [row, reason] : rows) {
    try {
      encoder.encode(parse_conversation(row));
      ADD_FAILURE() << "accepted: " << row;
    } catch (const RowError& e) {
      EXPECT_EQ(e.reason(), reason) << e.what();
    }
  }
}

TEST(Turns, PromptsContinueWhereTheAnswerBegins) {
  const ChatTemplate chat_template = open_template("smollm2");
  const ChatEncoder encoder(smollm2(), chat_template, {});
  Conversation conversation = conversation_of(kTwoTurns);
  const EncodedChat chat = encoder.encode(conversation);
  const auto prompt = encoder.encode_prompt(prompt_messages(conversation), Json::object()).ids;
  ASSERT_EQ(prompt.size(), static_cast<size_t>(chat.turns.back()[0]));
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), chat.ids.begin()));
}

}  // namespace
}  // namespace aerie
