// Rendered conversations must be exactly what transformers renders, refusals and spans included.
#include "data/chat_template.h"

#include <gmock/gmock.h>

#include "common/error.h"
#include "common/files.h"
#include "tests/data/text_golden.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;

void expect_rendered(const ChatTemplate& chat_template, const Json& conversation,
                     bool add_generation_prompt, const Json& golden) {
  const Json variables = conversation.value("variables", Json::object());
  try {
    const RenderedChat chat =
        chat_template.render(conversation.at("messages"), add_generation_prompt, variables);
    ASSERT_TRUE(golden.contains("text"))
        << "transformers refuses this: " << golden.dump() << "\nwe render " << chat.text;
    EXPECT_EQ(chat.text, golden.at("text").get<std::string>());
    Json spans = Json::array();
    for (const ByteSpan& span : chat.generation) spans.push_back({span.begin, span.end});
    EXPECT_EQ(spans, golden.at("spans"));
  } catch (const Error& e) {
    ASSERT_TRUE(golden.contains("error")) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(golden.at("error").get<std::string>()));
  }
}

TEST(ChatTemplate, EveryConversationEqualsTransformers) {
  const Json& golden = golden_text();
  ASSERT_GE(golden.at("templates").size(), 10u);
  ASSERT_GE(golden.at("conversations").size(), 8u);
  for (const auto& [name, rows] : golden.at("templates").items()) {
    const ChatTemplate chat_template = open_template(name);
    for (size_t i = 0; i < rows.size(); ++i) {
      for (const bool prompt : {false, true}) {
        SCOPED_TRACE(
            fmt::format("template {}, conversation {}, generation prompt {}", name, i, prompt));
        expect_rendered(chat_template, golden.at("conversations")[i], prompt,
                        rows[i][prompt ? 1 : 0]);
      }
    }
  }
}

ChatTemplate make(const std::string& source) {
  return ChatTemplate(source, {{"eos_token", "</s>"}}, "test");
}

TEST(ChatTemplate, ErrorsCarryTheTemplatesMessageOrLine) {
  EXPECT_THAT(error_of([] { make("a\n{% if %}"); }), AllOf(HasSubstr("test"), HasSubstr("line 2")));
  EXPECT_THAT(
      error_of([] {
        make("{{ raise_exception('no ' + messages[0].role) }}").render({{{"role", "x"}}}, false);
      }),
      AllOf(HasSubstr("test"), HasSubstr("no x")));
  EXPECT_THAT(error_of([] {
                make("\n\n{{ messages[0].content + 1 }}").render({{{"content", "x"}}}, false);
              }),
              HasSubstr("line 3"));
  EXPECT_THAT(error_of([] { make("x").render(Json::array({"text"}), false); }),
              HasSubstr("must be an object"));
}

TEST(ChatTemplate, ClockAndGenerationTag) {
  EXPECT_THAT(make("{{ strftime_now('%Y') }}").render(Json::array(), false).text,
              ::testing::MatchesRegex("20[0-9][0-9]"));
  EXPECT_TRUE(make("{%- generation -%}{%- endgeneration -%}").has_generation_tag());
  EXPECT_FALSE(make("generation {{ '{' }}").has_generation_tag());
  EXPECT_EQ(make("x").special_token("eos_token"), "</s>");
  EXPECT_EQ(make("x").special_token("bos_token"), "");
}

class TemplateFiles : public ::testing::Test {
 protected:
  std::string render(const Json& variables = Json::object()) {
    return ChatTemplate(dir_)
        .render({{{"role", "user"}, {"content", "hi"}}}, false, variables)
        .text;
  }
  const testing::Scratch scratch_;
  const fs::path& dir_ = scratch_.path();
};

TEST_F(TemplateFiles, WhereTemplatesComeFrom) {
  EXPECT_THAT(error_of([&] { render(); }),
              AllOf(HasSubstr(dir_.string()), HasSubstr("no chat template")));
  write_file_atomic(dir_ / "chat_template.json",
                    R"({"chat_template": "processor {{ bos_token }}"})");
  EXPECT_EQ(render(), "processor ");
  write_file_atomic(dir_ / "special_tokens_map.json",
                    R"({"bos_token": {"content": "<b>"}, "eos_token": "old"})");
  EXPECT_EQ(render(), "processor <b>");
  write_file_atomic(
      dir_ / "tokenizer_config.json",
      R"({"eos_token": "</s>", "chat_template": "config {{ bos_token + eos_token }}"})");
  EXPECT_EQ(render(), "config <b></s>");
  write_file_atomic(
      dir_ / "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(render(), "plain");
  EXPECT_EQ(render({{"tools", Json::array()}}), "tools");
  write_file_atomic(dir_ / "chat_template.jinja", "file {{ messages[0].content }}");
  EXPECT_EQ(render(), "file hi");
}

TEST_F(TemplateFiles, BrokenFilesAreNamed) {
  write_file_atomic(dir_ / "tokenizer_config.json", "{");
  EXPECT_THAT(error_of([&] { render(); }),
              AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("not JSON")));
  write_file_atomic(dir_ / "tokenizer_config.json",
                    R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("none is named \"default\""));
  write_file_atomic(dir_ / "tokenizer_config.json", R"({"chat_template": [1]})");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("neither a string nor a list"));
}

}  // namespace
}  // namespace aerie
