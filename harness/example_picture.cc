// SPDX-License-Identifier: Apache-2.0

#include "harness/example_picture.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// SGR sequences: https://www.ecma-international.org/publications-and-standards/
// standards/ecma-48, section 8.3.117.
constexpr char kGrey[] = "\033[90m";
constexpr char kBold[] = "\033[1;33m";
constexpr char kAnswer[] = "\033[32m";
constexpr char kUnderlined[] = "\033[4m";
constexpr char kPlain[] = "\033[0m";

// Text and the columns it takes, which colours do not.
struct Word {
  std::string text;
  size_t columns = 0;
};

const char* RoleName(TokenRole role) {
  switch (role) {
    case TokenRole::kContext:
      return "context";
    case TokenRole::kFiller:
      return "filler";
    case TokenRole::kQuery:
      break;
  }
  return "query";
}

// Characters, not bytes, of UTF-8.
size_t Columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c & 0xC0) != 0x80; });
}

class Painter {
 public:
  Painter(const Task& task, const Example& example, bool color)
      : task_(task), example_(example), color_(color) {}

  Word Paint(size_t t) const {
    const std::string token = task_.TokenText(example_.tokens[t]);
    const int32_t target = example_.targets[t];
    const TokenRole role = example_.roles[t];
    if (target == kUnscored && role == TokenRole::kContext) {
      return {token, Columns(token)};
    }
    if (target == kUnscored) {
      return role == TokenRole::kFiller ? Marked(kGrey, token, "(", ")")
                                        : Marked(kBold, token, "", "?");
    }
    // The answer that stands next in the sequence need not be said.
    if (t + 1 < example_.tokens.size() && example_.tokens[t + 1] == target) {
      return Marked(kUnderlined, token, "_", "");
    }
    const std::string answer = task_.TokenText(target);
    Word word = Marked(kBold, token, "", "");
    word.columns += 1 + Columns(answer);
    absl::StrAppend(&word.text, ">", color_ ? kAnswer : "", answer,
                    color_ ? kPlain : "");
    return word;
  }

  std::string Legend() const {
    return absl::StrCat("context ", Marked(kGrey, "filler", "(", ")").text, " ",
                        Marked(kBold, "query", "", "?").text, " ",
                        Marked(kBold, "scored", "", "").text, ">",
                        color_ ? kAnswer : "", "answer", color_ ? kPlain : "",
                        " ", Marked(kUnderlined, "scored", "_", "").text,
                        " where the answer is the next token");
  }

 private:
  // In the colour or, without colours, between the marks.
  Word Marked(const char* code, const std::string& text, const char* before,
              const char* after) const {
    if (color_) {
      return {absl::StrCat(code, text, kPlain), Columns(text)};
    }
    Word word = {absl::StrCat(before, text, after), 0};
    word.columns = Columns(word.text);
    return word;
  }

  const Task& task_;
  const Example& example_;
  const bool color_;
};

// The end of the run of unscored tokens of one role that begins at t.
size_t EndOfRun(const Example& example, size_t t) {
  size_t end = t;
  while (end < example.tokens.size() && example.targets[end] == kUnscored &&
         example.roles[end] == example.roles[t]) {
    ++end;
  }
  return end;
}

std::string WithCommas(size_t n) {
  std::string digits = absl::StrCat(n);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(at, ",");
  }
  return digits;
}

Word More(size_t tokens) {
  Word word = {absl::StrCat("... ", WithCommas(tokens), " more ..."), 0};
  word.columns = word.text.size();
  return word;
}

}  // namespace

std::string PictureOfExample(const Task& task, const Example& example,
                             const TerminalStyle& style) {
  // Of a run this many are shown, from its beginning and its end.
  constexpr size_t kShownOfRun = 40, kShownOfEnd = 8;
  // Of scored positions, where all are, a page is enough.
  constexpr size_t kMostWords = 600;
  constexpr int kWidest = 100;
  const size_t width = std::min(style.columns, kWidest);

  const Painter painter(task, example, style.color);
  std::vector<Word> words;
  size_t t = 0;
  while (t < example.tokens.size() && words.size() < kMostWords) {
    const size_t end = EndOfRun(example, t);
    const size_t run = end - t;
    const bool cut = run > kShownOfRun + kShownOfEnd + 8;
    const size_t shown = cut ? kShownOfRun : std::max<size_t>(run, 1);
    for (size_t i = 0; i < shown; ++i) words.push_back(painter.Paint(t + i));
    if (cut) {
      words.push_back(More(run - kShownOfRun - kShownOfEnd));
      for (size_t i = end - kShownOfEnd; i < end; ++i) {
        words.push_back(painter.Paint(i));
      }
    }
    t += std::max<size_t>(run, 1);
  }
  if (t < example.tokens.size()) {
    words.push_back(More(example.tokens.size() - t));
  }

  std::string picture = " ";
  size_t column = 1;
  for (const Word& word : words) {
    if (column > 1 && column + 1 + word.columns > width) {
      absl::StrAppend(&picture, "\n ");
      column = 1;
    }
    absl::StrAppend(&picture, " ", word.text);
    column += 1 + word.columns;
  }
  absl::StrAppend(&picture, "\n\n  ", painter.Legend(), "\n");
  return picture;
}

nlohmann::ordered_json ExampleJson(const Task& task, const Example& example) {
  using Json = nlohmann::ordered_json;
  Json text = Json::array(), targets = Json::array(), roles = Json::array();
  for (size_t t = 0; t < example.tokens.size(); ++t) {
    text.push_back(task.TokenText(example.tokens[t]));
    targets.push_back(
        example.targets[t] == kUnscored ? Json() : Json(example.targets[t]));
    roles.push_back(RoleName(example.roles[t]));
  }
  Json json = {{"tokens", example.tokens},
               {"text", text},
               {"targets", targets},
               {"roles", roles}};
  if (!example.origins.empty()) {
    Json origins = Json::array();
    for (const int32_t origin : example.origins) {
      origins.push_back(origin == kNowhere ? Json() : Json(origin));
    }
    json["origins"] = origins;
  }
  return json;
}

}  // namespace mneme
