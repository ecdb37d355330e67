// One HTML file that needs nothing else: cards with tables and SVG, readable in light and dark.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace aerie::pages {

/// Text as HTML shows it literally.
std::string escape(std::string_view text);

/// `title` is text; `subtitle` and `body` are HTML.
std::string page(const std::string& title, const std::string& subtitle, const std::string& body);
/// A box with a heading. `body` is HTML.
std::string card(const std::string& title, const std::string& body);
/// Cards that stand side by side where the window is wide enough.
std::string grid(const std::string& cards);
/// A large figure with what it is.
std::string tile(const std::string& value, const std::string& label);
std::string tiles(const std::vector<std::string>& tiles);
/// The first row are the headings; cells are HTML. The first column stands left, others right.
std::string table(const std::vector<std::vector<std::string>>& rows);
/// A colour and what it stands for; several stand in one legend().
std::string key_of(const std::string& color, const std::string& label);
std::string legend(const std::string& keys);

/// The colour of the n-th of several things that have no order.
std::string series_color(size_t series);
/// The colour of step `index` of `count` that follow each other (depths of a draft).
std::string step_color(size_t index, size_t count);

}  // namespace aerie::pages
