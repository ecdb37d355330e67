#include "data/turns.h"

#include <algorithm>

#include "data/conversation.h"

namespace aerie {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";
constexpr size_t npos = std::string_view::npos;

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

std::string_view common_prefix(std::string_view a, std::string_view b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return a.substr(0, static_cast<size_t>(end - a.begin()));
}

/// The common prefix that ends between tokens ("<|" of "<|user|>" and "<|endoftext|>" is none), or
/// one text whole where the other goes on from it.
std::string_view common_token_prefix(std::string_view a, std::string_view b,
                                     const Tokenizer& tokenizer) {
  const std::string_view common = common_prefix(a, b);
  if (common.size() == std::min(a.size(), b.size())) return common;
  const Encoding x = tokenizer.encode(a), y = tokenizer.encode(b);
  const auto same = std::mismatch(x.ids.begin(), x.ids.end(), y.ids.begin(), y.ids.end());
  const auto count = static_cast<size_t>(same.first - x.ids.begin());
  if (count == 0) return {};
  return common.substr(0, x.offsets[count - 1][1]);
}

// --- Probing ---

constexpr const char* kUser1 = "Xq1user";
constexpr const char* kUser2 = "Xq2user";
constexpr const char* kAnswer1 = "Xq1reply";
constexpr const char* kAnswer2 = "Xq2reply";

Json message(const char* role, const char* content) {
  return {{"role", role}, {"content", content}};
}

/// What stands between the probes' contents.
struct Surroundings {
  std::string user_to_answer, answer_to_user, after_last_answer;
  std::string after_user;    // rendered without ...
  std::string after_prompt;  // ... and with the generation prompt
};

std::string after(const std::string& text, const char* content) {
  const size_t at = text.find(content);
  if (at == npos) fail("the template does not print the content of a turn");
  return text.substr(at + std::string_view(content).size());
}

std::string before(const std::string& text, const char* content) {
  const size_t at = text.find(content);
  if (at == npos) fail("the template does not print the content of a turn");
  return text.substr(0, at);
}

Surroundings render_probes(const ChatTemplate& chat_template, const Json& variables) {
  const Json one = {message("user", kUser1)};
  const Json two = {message("user", kUser1), message("assistant", kAnswer1),
                    message("user", kUser2), message("assistant", kAnswer2)};
  const std::string text = chat_template.render(two, false, variables).text;
  Surroundings s;
  s.user_to_answer = before(after(text, kUser1), kAnswer1);
  s.answer_to_user = before(after(text, kAnswer1), kUser2);
  s.after_last_answer = after(text, kAnswer2);
  s.after_user = after(chat_template.render(one, false, variables).text, kUser1);
  s.after_prompt = after(chat_template.render(one, true, variables).text, kUser1);
  return s;
}

/// Up to and including the first special token; npos if there is none.
size_t end_of_first_special(std::string_view text, const Tokenizer& tokenizer) {
  const Encoding encoding = tokenizer.encode(text);
  for (size_t i = 0; i < encoding.ids.size(); ++i)
    if (tokenizer.is_special(encoding.ids[i])) return encoding.offsets[i][1];
  return npos;
}

/// What follows both an answer in the middle and the last one: its end of turn, then perhaps
/// blanks.
std::string find_end_of_turn(const Surroundings& s, const Tokenizer& tokenizer,
                             const std::string& eos) {
  const size_t at = eos.empty() ? npos : s.answer_to_user.find(eos);
  if (at != npos && trim(std::string_view(s.answer_to_user).substr(0, at)).empty())
    return s.answer_to_user.substr(0, at + eos.size());
  const std::string_view common =
      common_token_prefix(s.answer_to_user, s.after_last_answer, tokenizer);
  const size_t special = end_of_first_special(common, tokenizer);
  if (special != npos) return std::string(common.substr(0, special));
  const size_t text = common.find_first_not_of(kSpaces);
  if (text == npos) return "";
  return std::string(common.substr(0, std::min(common.find('\n', text), common.size())));
}

TurnMarkers find_in(const Surroundings& s, const Tokenizer& tokenizer, const std::string& eos) {
  TurnMarkers markers;
  markers.end_of_turn = find_end_of_turn(s, tokenizer, eos);
  // What both a real turn and the prompt of a generation have before the model's own text.
  const std::string_view prompt = common_prefix(s.after_prompt, s.user_to_answer);
  markers.forced = s.after_prompt.substr(prompt.size());
  // Its first part closes the user's turn and would not be there after a tool's, say.
  const std::string_view close = common_token_prefix(prompt, s.after_user, tokenizer);
  markers.header = close.size() < prompt.size() ? prompt.substr(close.size()) : prompt;
  if (trim(markers.header).empty()) fail("an assistant turn begins with nothing of its own");
  return markers;
}

// --- Walking along the messages ---

std::vector<std::string> texts_of(const Json& message) {
  const Json& content = message.at("content");
  if (content.is_string()) return {content.get<std::string>()};
  std::vector<std::string> texts;
  if (!content.is_array()) return texts;
  for (const Json& part : content)
    if (part.is_object() && part.contains("text")) texts.push_back(part.at("text"));
  return texts;
}

struct Walk {
  const std::string& text;
  const TurnMarkers& markers;
  size_t at = 0;

  /// Where `content` stands at or after `from` and before `limit`; templates may trim it or cut
  /// reasoning off.
  ByteSpan find_content(std::string_view content, size_t from, size_t limit) const {
    const size_t thought = content.rfind("</think>");
    const std::string_view answer = thought == npos ? content : content.substr(thought + 8);
    for (const std::string_view form : {content, trim(content), trim(answer)}) {
      const size_t found = form.empty() ? npos : text.find(form, from);
      if (found != npos && found <= limit) return {found, found + form.size()};
    }
    return {npos, npos};
  }

  void step_over(const Json& message) {
    for (const std::string& content : texts_of(message)) {
      const ByteSpan span = find_content(content, at, text.find(markers.header, at));
      if (span.begin != npos) at = span.end;
    }
  }

  /// A turn whose text follows a header. False if its content is not there.
  bool find_after_header(const std::vector<std::string>& contents, ByteSpan& turn) const {
    const size_t header = text.find(markers.header, at);
    if (header == npos) return false;
    turn.begin = header + markers.header.size();
    if (!markers.forced.empty() &&
        text.compare(turn.begin, markers.forced.size(), markers.forced) == 0)
      turn.begin += markers.forced.size();
    turn.end = turn.begin;
    for (const std::string& content : contents) {
      if (trim(content).empty()) continue;
      const size_t limit =
          markers.end_of_turn.empty() ? npos : text.find(markers.end_of_turn, turn.end);
      const ByteSpan found = find_content(content, turn.end, limit);
      if (found.begin == npos) return false;
      turn.end = found.end;
    }
    return true;
  }

  /// A turn that some templates print without a header (after a tool's result): its content alone.
  bool find_without_header(const std::vector<std::string>& contents, ByteSpan& turn) const {
    if (contents.size() != 1 || trim(contents[0]).empty()) return false;
    turn = find_content(contents[0], at, npos);
    return turn.begin != npos;
  }

  ByteSpan take_turn(const Json& message) {
    const std::vector<std::string> contents = texts_of(message);
    ByteSpan turn;
    if (!find_after_header(contents, turn) && !find_without_header(contents, turn))
      throw RowError("assistant turn not found in the rendered text",
                     contents.empty() ? "" : contents[0].substr(0, 60));
    if (!markers.end_of_turn.empty()) {
      const size_t close = text.find(markers.end_of_turn, turn.end);
      // A turn that the template leaves open (the last one of some) ends with its content.
      if (close < text.find(markers.header, turn.end))
        turn.end = close + markers.end_of_turn.size();
    }
    at = turn.end;
    return turn;
  }
};

}  // namespace

TurnMarkers find_turn_markers(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                              const Json& variables) {
  try {
    return find_in(render_probes(chat_template, variables), tokenizer,
                   chat_template.special_token("eos_token"));
  } catch (const Error& e) {
    fail(
        "{}: cannot tell assistant turns from the others ({}): name data.assistant_header and "
        "data.end_of_turn in the configuration",
        chat_template.origin(), e.what());
  }
}

std::vector<ByteSpan> assistant_spans(const std::string& text, const Json& messages,
                                      const TurnMarkers& markers) {
  std::vector<ByteSpan> spans;
  Walk walk{text, markers};
  for (const Json& message : messages) {
    if (message.at("role") == "assistant") {
      spans.push_back(walk.take_turn(message));
    } else {
      walk.step_over(message);
    }
  }
  return spans;
}

std::vector<ByteSpan> mend_generation_spans(const std::string& text,
                                            const std::vector<ByteSpan>& spans,
                                            const TurnMarkers& markers) {
  const std::string& close = markers.end_of_turn;
  std::vector<ByteSpan> mended;
  for (ByteSpan span : spans) {
    if (!markers.forced.empty() &&
        text.compare(span.begin, markers.forced.size(), markers.forced) == 0)
      span.begin += markers.forced.size();
    if (!close.empty()) {
      // The first end of turn from the last visible text of the span on.
      const std::string_view inside =
          std::string_view(text).substr(span.begin, span.end - span.begin);
      const size_t visible =
          span.begin + std::min(inside.find_last_not_of(kSpaces) + 1, inside.size());
      const size_t from = visible >= close.size() ? visible - close.size() : 0;
      const size_t at = text.find(close, std::max(from, span.begin));
      const bool only_blanks_between =
          at != npos &&
          (at <= visible || trim(std::string_view(text).substr(visible, at - visible)).empty());
      if (only_blanks_between) span.end = at + close.size();
    }
    if (span.end > span.begin) mended.push_back(span);
  }
  return mended;
}

}  // namespace aerie
