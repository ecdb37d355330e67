// A strict reader of YAML run files, driven by a table with one row a key. The same rows parse,
// check, describe and write.
#pragma once
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace aerie::schema {

/// Where a key's value goes; its type is the key's type. Lists also accept a single element.
using Slot =
    std::variant<bool*, int64_t*, uint64_t*, double*, std::string*, std::filesystem::path*,
                 std::vector<int64_t>*, std::vector<double>*, std::vector<std::filesystem::path>*>;

/// What a value (each element of a list) must be besides its type.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open = false;                      ///< `low` itself is not allowed
  std::vector<std::string> choices = {};  ///< of a string; []: any
  bool required = false;                  ///< must not be empty
};
Rule any();
Rule required();
Rule at_least(double low);
Rule above(double low);
Rule between(double low, double high);
Rule one_of(std::vector<std::string> choices);

struct Key {
  std::string name;  ///< "section.key"
  Slot slot;         ///< its content before parsing is the default
  Rule rule;
  std::string unit;  ///< "tokens"; "" for none
  std::string help;  ///< one line
};
using Table = std::vector<Key>;

/// Fills the slots of `table` from YAML `text`; `file` is its name in messages. Throws Error, with
/// file and line, for malformed YAML, an unknown or repeated key (naming the nearest known one), a
/// wrong type or range (naming what is allowed).
void read_yaml(const std::string& text, const std::string& file, const Table& table);
/// Applies one "section.key=value" with the same checks. A list is written [a, b].
void apply_override(const std::string& assignment, const Table& table);
/// Throws Error naming the first required key whose slot is empty.
void check_required(const std::string& file, const Table& table);

/// The slots' values as YAML that read_yaml takes back unchanged.
std::string write_yaml(const Table& table);
/// Every key with its slot's value, written as in YAML.
std::map<std::string, std::string> values(const Table& table);
/// Type, range, default (the slots' values), unit and help of every key.
std::string describe(const Table& table);

}  // namespace aerie::schema
