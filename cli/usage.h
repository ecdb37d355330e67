// What is said of a command line that cannot be understood.
#pragma once
#include <CLI/CLI.hpp>

#include <string>

namespace aerie::cli {

/// One line for the user: the first word that no command knows, with the nearest that one does
/// know, before anything that is missing; else what the parser says.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error);

/// Checks of a flag's number.
CLI::Validator above_zero();
CLI::Validator zero_or_more();

}  // namespace aerie::cli
