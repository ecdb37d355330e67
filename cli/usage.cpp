#include "cli/usage.h"

#include <fmt/format.h>

#include <functional>

#include "configs/suggestion.h"

namespace aerie::cli {
namespace {

/// The subcommand that was named, or the program.
const CLI::App* named_command(const CLI::App* app) {
  const auto named = app->get_subcommands();
  return named.empty() ? app : named.front();
}

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  return commands;
}

std::string unknown_word(const CLI::App& command, std::string word) {
  const bool is_flag = word.starts_with('-');
  if (is_flag) word = word.substr(0, word.find('='));
  const std::string near = nearest_name(word, is_flag ? flags_of(command) : commands_of(command));
  const char* kind = is_flag ? "flag" : command.get_parent() == nullptr ? "command" : "argument";
  return fmt::format("{} has no {} {}{}", command.get_name(), kind, word,
                     near.empty() ? "" : fmt::format("; did you mean {}?", near));
}

CLI::Validator number(const char* wanted, const std::function<bool(double)>& allowed) {
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && allowed(value)) return std::string();
        return fmt::format("{} is not {}", text, wanted);
      },
      "");
}

}  // namespace

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = *named_command(&app);
  const auto unknown = app.remaining(true);
  const std::string what = unknown.empty() ? error.what() : unknown_word(command, unknown.front());
  const std::string path = command.get_parent() == nullptr ? "" : command.get_name() + " ";
  return fmt::format("{}\n`{} {}--help` says what there is", what, app.get_name(), path);
}

CLI::Validator above_zero() {
  return number("a number above 0", [](double value) { return value > 0; });
}

CLI::Validator zero_or_more() {
  return number("0 or a number above it", [](double value) { return value >= 0; });
}

}  // namespace aerie::cli
