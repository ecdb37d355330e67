#include "decoding/bench_page.h"

#include <fmt/format.h>

namespace aerie {

namespace {

constexpr const char* kStyle = R"(
:root{--bg:#fafaf8;--card:#fff;--ink:#1c1f24;--soft:#667085;--line:#e4e4df;--a:#94a3b8;--b:#2563eb;
--c:#f59e0b;--d:#10b981;--e:#e11d48;--hit:#bbf7d0}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1d2026;--ink:#e7e9ee;--soft:#98a2b3;
--line:#30343c;--a:#64748b;--b:#60a5fa;--hit:#14532d}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1080px;padding:32px 20px 64px;background:var(--bg);
color:var(--ink);font:15px/1.55 system-ui,sans-serif}h1{font-size:26px;margin:0 0 4px}
h2{font-size:17px;margin:0 0 12px}p.sub{color:var(--soft);margin:0 0 24px}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin-bottom:20px}.card{background:var(--card);
border:1px solid var(--line);border-radius:12px;padding:18px 20px;margin-bottom:20px}
.tile{flex:1;min-width:150px;margin:0}.tile b{display:block;font-size:28px;line-height:1.2}
.tile span{color:var(--soft);font-size:13px}.grid{display:grid;gap:20px;
grid-template-columns:repeat(auto-fit,minmax(430px,1fr))}.grid .card{margin:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;
padding:6px 10px;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500;font-size:13px}
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg text.v{fill:var(--ink);font-weight:600}
.wide{overflow-x:auto}.key{color:var(--soft);font-size:13px;margin-top:8px}
.dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 5px 0 12px}
.out{white-space:pre-wrap;border-left:3px solid var(--line);padding-left:14px;margin:8px 0 22px}
.out mark{background:var(--hit);color:inherit;border-radius:3px}.q{color:var(--soft);white-space:pre-wrap}
)";

}  // namespace

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string card(const std::string& title, const std::string& body) {
  return "<div class='card'><h2>" + title + "</h2>" + body + "</div>";
}

std::string tile(const std::string& value, const std::string& label) {
  return fmt::format("<div class='card tile'><b>{}</b><span>{}</span></div>", value, label);
}

std::string key_of(const std::string& color, const std::string& label) {
  return fmt::format("<span class='dot' style='background:{}'></span>{}", color, label);
}

std::string page(const std::string& name, const std::string& title, const std::string& subtitle,
                 const std::string& body) {
  std::string html =
      "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
      "content='width=device-width'><title>" +
      escape(name) + "</title><style>";
  html += kStyle;
  html += "</style><h1>" + escape(title) + "</h1><p class='sub'>" + subtitle + "</p>" + body;
  return html + "</html>\n";
}

}  // namespace aerie
