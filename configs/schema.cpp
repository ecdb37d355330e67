#include "configs/schema.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

#include "common/error.h"
#include "configs/suggestion.h"

namespace aerie::schema {
namespace {

namespace fs = std::filesystem;

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;  // clang 14 does not find it by itself

// ---- words ----

std::string section_of(const std::string& name) { return name.substr(0, name.find('.')); }
std::string leaf_of(const std::string& name) { return name.substr(name.find('.') + 1); }

std::string range_words(const char* noun, const Rule& rule) {
  if (std::isfinite(rule.low) && std::isfinite(rule.high)) {
    return fmt::format("{} from {:g} to {:g}", noun, rule.low, rule.high);
  }
  if (!std::isfinite(rule.low)) return noun;
  return fmt::format("{}{} {:g}", noun, rule.open ? " above" : ", at least", rule.low);
}

/// "an integer, at least 1"
std::string allowed(const Key& key) {
  return std::visit(
      Overloaded{
          [](bool*) -> std::string { return "true or false"; },
          [&](int64_t*) { return range_words("an integer", key.rule); },
          [&](uint64_t*) { return range_words("an integer", key.rule); },
          [&](double*) { return range_words("a number", key.rule); },
          [&](std::string*) -> std::string {
            if (key.rule.choices.empty()) return "text";
            return fmt::format("{}", fmt::join(key.rule.choices, " | "));
          },
          [](fs::path*) -> std::string { return "a path"; },
          [&](std::vector<int64_t>*) {
            return "a list, each " + range_words("an integer", key.rule);
          },
          [&](std::vector<double>*) { return "a list, each " + range_words("a number", key.rule); },
          [](std::vector<fs::path>*) -> std::string { return "a list of paths"; },
      },
      key.slot);
}

std::vector<std::string> section_names(const Table& table) {
  std::vector<std::string> names;
  for (const Key& key : table) {
    if (names.empty() || names.back() != section_of(key.name))
      names.push_back(section_of(key.name));
  }
  return names;
}

std::string did_you_mean(const std::string& name, const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest);
}

void check_section(const std::string& place, const std::string& section, const Table& table) {
  const std::vector<std::string> known = section_names(table);
  if (std::count(known.begin(), known.end(), section) == 1) return;
  std::string hint = did_you_mean(section, known);
  if (hint.empty()) hint = fmt::format("; sections: {}", fmt::join(known, ", "));
  fail("{}: unknown section {}{}", place, section, hint);
}

const Key& find_key(const std::string& place, const std::string& name, const Table& table) {
  std::vector<std::string> known, siblings;
  for (const Key& key : table) {
    if (key.name == name) return key;
    known.push_back(key.name);
    if (section_of(key.name) == section_of(name)) siblings.push_back(leaf_of(key.name));
  }
  std::string hint = did_you_mean(name, known);
  if (hint.empty()) {
    check_section(place, section_of(name), table);
    hint = fmt::format("; keys of {}: {}", section_of(name), fmt::join(siblings, ", "));
  }
  fail("{}: unknown key {}{}", place, name, hint);
}

// ---- values ----

bool in_range(double value, const Rule& rule) {
  return std::isfinite(value) && (rule.open ? value > rule.low : value >= rule.low) &&
         value <= rule.high;
}

template <typename Number>
bool parse_number(const std::string& text, const Rule& rule, Number& out) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), out);
  return status == std::errc{} && end == text.data() + text.size() &&
         in_range(static_cast<double>(out), rule);
}

bool parse_scalar(const std::string& text, const Key& key) {
  return std::visit(Overloaded{
                        [&](bool* slot) {
                          *slot = text == "true";
                          return text == "true" || text == "false";
                        },
                        [&](std::string* slot) {
                          *slot = text;
                          return key.rule.choices.empty() ||
                                 std::count(key.rule.choices.begin(), key.rule.choices.end(),
                                            text) == 1;
                        },
                        [&](fs::path* slot) {
                          *slot = text;
                          return true;
                        },
                        [&](std::vector<fs::path>* slot) {
                          slot->emplace_back(text);
                          return !text.empty();
                        },
                        [&]<typename Number>(std::vector<Number>* slot) {
                          return parse_number(text, key.rule, slot->emplace_back());
                        },
                        [&](auto* number) { return parse_number(text, key.rule, *number); },
                    },
                    key.slot);
}

/// Empties a list's slot; false for a key that is not a list.
bool start_list(const Key& key) {
  return std::visit(Overloaded{
                        []<typename Element>(std::vector<Element>* slot) {
                          slot->clear();
                          return true;
                        },
                        [](auto*) { return false; },
                    },
                    key.slot);
}

void parse_value(const std::string& place, const YAML::Node& node, const Key& key) {
  const bool list = start_list(key);
  const auto refuse = [&](const std::string& value) {
    fail("{}: {} is {}; allowed: {}", place, key.name, value, allowed(key));
  };
  const auto scalar = [&](const YAML::Node& element) {
    if (element.IsNull()) refuse("empty");
    if (!element.IsScalar()) refuse(element.IsMap() ? "a map" : "a list");
    if (!parse_scalar(element.Scalar(), key)) refuse(fmt::format("\"{}\"", element.Scalar()));
  };
  if (!list || !node.IsSequence()) return scalar(node);
  for (const YAML::Node& element : node) scalar(element);
}

YAML::Node parse_yaml(const std::string& text, const std::string& place) {
  try {
    return YAML::Load(text);
  } catch (const YAML::ParserException& error) {
    fail("{}:{}:{}: not valid YAML: {}", place, error.mark.line + 1, error.mark.column + 1,
         error.msg);
  }
}

// ---- writing ----

std::string quoted(const std::string& text) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_./-", c);
  };
  if (!text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
      std::all_of(text.begin(), text.end(), plain)) {
    return text;
  }
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << text;
  return emitter.c_str();
}

std::string text_of(const std::string& text) { return quoted(text); }
std::string text_of(const fs::path& path) { return quoted(path.string()); }
template <typename Number>
std::string text_of(Number number) {
  return fmt::format("{}", number);
}
template <typename Element>
std::string text_of(const std::vector<Element>& list) {
  std::vector<std::string> elements;
  for (const Element& element : list) elements.push_back(text_of(element));
  return fmt::format("[{}]", fmt::join(elements, ", "));
}

std::string value_text(const Slot& slot) {
  return std::visit([](const auto* value) { return text_of(*value); }, slot);
}

}  // namespace

Rule any() { return {}; }
Rule required() { return {.required = true}; }
Rule at_least(double low) { return {.low = low}; }
Rule above(double low) { return {.low = low, .open = true}; }
Rule between(double low, double high) { return {.low = low, .high = high}; }
Rule one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }

void read_yaml(const std::string& text, const std::string& file, const Table& table) {
  const YAML::Node root = parse_yaml(text, file);
  const auto place = [&](const YAML::Node& node) {
    return fmt::format("{}:{}", file, node.Mark().line + 1);
  };
  if (root.IsNull()) return;
  AERIE_CHECK(root.IsMap(), "{}: must hold sections (\"train:\" and keys below it)", place(root));
  std::set<std::string> seen;
  for (const auto& section : root) {
    const std::string section_name = section.first.Scalar();
    check_section(place(section.first), section_name, table);
    AERIE_CHECK(seen.insert(section_name).second, "{}: section {} stands twice; join the two",
                place(section.first), section_name);
    if (section.second.IsNull()) continue;
    AERIE_CHECK(section.second.IsMap(), "{}: section {} must hold \"key: value\" lines",
                place(section.first), section_name);
    for (const auto& entry : section.second) {
      const std::string name = section_name + "." + entry.first.Scalar();
      const Key& key = find_key(place(entry.first), name, table);
      AERIE_CHECK(seen.insert(name).second, "{}: {} stands twice; remove one", place(entry.first),
                  name);
      parse_value(place(entry.first), entry.second, key);
    }
  }
}

void apply_override(const std::string& assignment, const Table& table) {
  const std::string place = "--set " + assignment;
  const size_t equals = assignment.find('=');
  AERIE_CHECK(equals != std::string::npos && equals > 0, "{}: write section.key=value", place);
  const Key& key = find_key(place, assignment.substr(0, equals), table);
  const std::string value = assignment.substr(equals + 1);
  // Only a bracketed list is YAML; anything else is taken as it stands, so that a path needs no
  // quotes.
  const bool bracketed = value.starts_with('[');
  parse_value(place, bracketed ? parse_yaml(value, place) : YAML::Node(value), key);
}

void check_required(const std::string& file, const Table& table) {
  for (const Key& key : table) {
    const std::string text = value_text(key.slot);
    AERIE_CHECK(!key.rule.required || (text != "\"\"" && text != "[]"),
                "{}: {} is missing ({}); add it, or pass --set {}=...", file, key.name, key.help,
                key.name);
  }
}

std::string write_yaml(const Table& table) {
  std::string text, section;
  for (const Key& key : table) {
    if (section_of(key.name) != section) {
      section = section_of(key.name);
      text += section + ":\n";
    }
    text += fmt::format("  {}: {}\n", leaf_of(key.name), value_text(key.slot));
  }
  return text;
}

std::map<std::string, std::string> values(const Table& table) {
  std::map<std::string, std::string> found;
  for (const Key& key : table) found[key.name] = value_text(key.slot);
  return found;
}

std::string describe(const Table& table) {
  std::string text, section;
  for (const Key& key : table) {
    if (section_of(key.name) != section) {
      text += section.empty() ? "" : "\n";
      section = section_of(key.name);
      text += section + ":\n";
    }
    const std::string fallback = key.rule.required ? "required" : "default " + value_text(key.slot);
    text += fmt::format("  {:<18} {}\n  {:<18}   {}{}; {}\n", leaf_of(key.name), key.help, "",
                        allowed(key), key.unit.empty() ? "" : ", in " + key.unit, fallback);
  }
  return text;
}

}  // namespace aerie::schema
