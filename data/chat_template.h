// The model's own chat template (Jinja), rendered byte for byte as transformers renders it.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/json.h"

struct HfTemplate;

namespace aerie {

struct ByteSpan {
  size_t begin = 0, end = 0;
  friend bool operator==(const ByteSpan&, const ByteSpan&) = default;
};

struct RenderedChat {
  std::string text;
  std::vector<ByteSpan> generation;  // what {% generation %} enclosed, where the template has it
};

/// Safe to use from several threads at once.
class ChatTemplate {
 public:
  /// Looks in a model directory: chat_template.jinja, tokenizer_config.json ("chat_template": a
  /// string, or a list of named ones), chat_template.json; bos_token and the like come from
  /// tokenizer_config.json and special_tokens_map.json. Throws Error naming the directory or file.
  explicit ChatTemplate(const std::filesystem::path& model_dir);
  /// `special_tokens`: {"bos_token": "<s>", ...}; `origin` stands in messages.
  ChatTemplate(const std::string& source, const Json& special_tokens, const std::string& origin);

  /// `messages`: an array of {"role", "content", ...}. Keys whose value is null are dropped and
  /// reasoning is found under any of its names, as transformers does. `variables` is an object of
  /// further names the template sees ("tools", "documents", "enable_thinking", "date_string"...).
  /// Throws Error with the template's own message (raise_exception) or its line.
  RenderedChat render(const Json& messages, bool add_generation_prompt,
                      const Json& variables) const;
  RenderedChat render(const Json& messages, bool add_generation_prompt) const;

  bool has_generation_tag() const;
  /// The value of a name such as "eos_token"; empty if the model has none.
  std::string special_token(std::string_view name) const;
  const std::string& origin() const { return origin_; }
  /// Hash of the templates and the special tokens.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  struct Release {
    void operator()(HfTemplate* handle) const;
  };
  using Handle = std::unique_ptr<HfTemplate, Release>;
  Handle compile(const std::string& source) const;
  void load_templates(const std::filesystem::path& model_dir, const Json& tokenizer_config);
  void set_templates(const Json& templates);

  Handle default_, with_tools_;  // with_tools_ may be null: then default_ serves
  std::string special_tokens_;   // JSON
  std::string origin_, fingerprint_;
};

}  // namespace aerie
