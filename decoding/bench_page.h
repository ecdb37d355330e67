// The frame that the pages of all benchmarks share: one file, readable in light and dark.
#pragma once
#include <string>

namespace aerie {

std::string escape(const std::string& text);
std::string card(const std::string& title, const std::string& body);
/// A large figure with what it is.
std::string tile(const std::string& value, const std::string& label);
/// One entry of a plot's key.
std::string key_of(const std::string& color, const std::string& label);
/// The whole page. `subtitle` and `body` are HTML.
std::string page(const std::string& name, const std::string& title, const std::string& subtitle,
                 const std::string& body);

}  // namespace aerie
