// SPDX-License-Identifier: Apache-2.0

#include "harness/new_variant.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "harness/atomic_file.h"
#include "harness/skeleton/skeleton.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

// Longer ones would not fit the lines of the skeleton.
constexpr size_t kMostLetters = 32;

// C++ keywords that look like a name, and words that would not say which
// mechanism is meant.
constexpr const char* kReserved[] = {
    "all",      "alignas",  "alignof", "and",      "asm",       "auto",
    "bitand",   "bitor",    "bool",    "break",    "case",      "catch",
    "char",     "class",    "compl",   "const",    "constexpr", "continue",
    "decltype", "default",  "delete",  "do",       "double",    "else",
    "enum",     "explicit", "export",  "extern",   "false",     "float",
    "for",      "friend",   "goto",    "if",       "inline",    "int",
    "long",     "mixer",    "mneme",   "mutable",  "namespace", "new",
    "noexcept", "not",      "nullptr", "operator", "or",        "private",
    "public",   "register", "return",  "short",    "signed",    "sizeof",
    "state",    "static",   "struct",  "switch",   "task",      "template",
    "test",     "this",     "throw",   "true",     "try",       "typedef",
    "typeid",   "typename", "union",   "unsigned", "using",     "variant",
    "variants", "virtual",  "void",    "volatile", "while",     "xor"};

bool IsLowerSnakeCase(const std::string& name) {
  char before = '_';
  for (char c : name) {
    const bool word = absl::ascii_islower(c) || absl::ascii_isdigit(c);
    if (!word && (c != '_' || before == '_')) return false;
    before = c;
  }
  return before != '_' && absl::ascii_islower(name[0]);
}

// my_memory -> My memory
std::string Title(const std::string& name) {
  std::string title = absl::StrReplaceAll(name, {{"_", " "}});
  title[0] = absl::ascii_toupper(title[0]);
  return title;
}

// my_memory -> MyMemory
std::string CamelCase(const std::string& name) {
  std::string camel;
  for (absl::string_view part : absl::StrSplit(name, '_')) {
    absl::StrAppend(&camel, Title(std::string(part)));
  }
  return camel;
}

absl::Status Failed(const std::string& what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// The text of variants.bzl with one more line, in its place in the alphabet.
absl::StatusOr<std::string> WithLabel(const std::string& text,
                                      const std::string& label) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  const std::string entry = absl::StrCat("    \"", label, "\",");
  auto line = std::find(lines.begin(), lines.end(), "VARIANTS = [");
  if (line != lines.end()) ++line;
  while (line != lines.end() && absl::StartsWith(*line, "    ") &&
         *line < entry) {
    ++line;
  }
  if (line == lines.end()) {
    return absl::FailedPreconditionError(
        "attention/variants.bzl has no list VARIANTS = [...]");
  }
  if (*line == entry) {
    return absl::AlreadyExistsError(
        absl::StrCat(label, " is in attention/variants.bzl already"));
  }
  lines.insert(line, entry);
  return absl::StrJoin(lines, "\n");
}

// The path below a root, or "" when it is elsewhere.
std::string Below(const std::string& root, const std::string& path) {
  if (root.empty()) return "";
  std::error_code ignored;
  const fs::path relative =
      fs::weakly_canonical(path, ignored)
          .lexically_relative(fs::weakly_canonical(root, ignored));
  return relative.empty() || *relative.begin() == ".." ? "" : relative.string();
}

// Writes a folder under another name and gives it its own when it is complete.
absl::Status WriteFolder(const std::string& folder, const std::string& name,
                         bool in_mneme) {
  const std::string parent = DirectoryOf(folder);
  if (absl::Status s = CheckWritableDirectory(parent); !s.ok()) return s;
  const std::string unfinished =
      absl::StrCat(parent, "/.mneme-", getpid(), ".tmp");
  if (mkdir(unfinished.c_str(), 0777) != 0) {
    return Failed("create a folder in", parent);
  }
  const absl::Cleanup remover = [&unfinished] {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
  };
  const auto filled = [&](const std::string& text) {
    return absl::StrReplaceAll(text, {{"my_variant", name},
                                      {"MyVariant", CamelCase(name)},
                                      {"My variant", Title(name)}});
  };
  const std::string build =
      in_mneme ? absl::StrReplaceAll(SkeletonBuild(), {{"@mneme//", "//"}})
               : absl::StrReplaceAll(SkeletonBuild(),
                                     {{"licenses([\"notice\"])\n\n", ""}});
  for (const auto& [file, text] : {std::pair(name + ".cc", SkeletonSource()),
                                   std::pair(std::string("BUILD"), build)}) {
    if (absl::Status s = WriteFileAtomically(
            absl::StrCat(unfinished, "/", file), filled(text));
        !s.ok()) {
      return s;
    }
  }
  // Fails if there is, by now, something that is no empty folder.
  if (rename(unfinished.c_str(), folder.c_str()) != 0) {
    return Failed("create the folder", folder);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckVariantName(const std::string& name) {
  const auto refuse = [&name](const std::string& why) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\" cannot name a variant: ", why));
  };
  if (!IsLowerSnakeCase(name)) {
    return refuse("it must be lower_snake_case, such as my_memory");
  }
  if (name.size() > kMostLetters) {
    return refuse(absl::StrCat("it is longer than ", kMostLetters, " letters"));
  }
  if (std::find(std::begin(kReserved), std::end(kReserved), name) !=
      std::end(kReserved)) {
    return refuse("that word is taken");
  }
  if (absl::StrContains(ShippedVariants(), absl::StrCat("/", name, "\""))) {
    return refuse("Mneme has one of that name");
  }
  return absl::OkStatus();
}

absl::StatusOr<WrittenVariant> WriteNewVariant(const NewVariant& variant) {
  const std::string& name = variant.name;
  if (absl::Status s = CheckVariantName(name); !s.ok()) return s;
  const std::string& root = variant.workspace;
  const std::string list = root + "/attention/variants.bzl";
  const bool own_workspace =
      !root.empty() && Exists(list) && Exists(root + "/attention/variant.h");
  std::string parent = variant.directory;
  if (parent.empty()) parent = own_workspace ? root + "/attention" : root;
  if (parent.empty()) parent = ".";
  while (parent.size() > 1 && parent.back() == '/') parent.pop_back();

  WrittenVariant written;
  written.folder = absl::StrCat(parent, "/", name);
  const std::string below = Below(root, written.folder);
  written.label = absl::StrCat("//", below.empty() ? name : below);
  const bool in_mneme = own_workspace && !below.empty();
  if (Exists(written.folder)) {
    return absl::AlreadyExistsError(
        absl::StrCat("there is a ", written.folder, " already"));
  }
  std::string listing;
  if (in_mneme) {
    absl::StatusOr<std::string> old = ReadFile(list);
    if (!old.ok()) return old.status();
    absl::StatusOr<std::string> with = WithLabel(*old, written.label);
    if (!with.ok()) return with.status();
    listing = *std::move(with);
  }
  if (absl::Status s = WriteFolder(written.folder, name, in_mneme); !s.ok()) {
    return s;
  }
  if (in_mneme) {
    if (absl::Status s = WriteFileAtomically(list, listing); !s.ok()) {
      std::error_code ignored;
      fs::remove_all(written.folder, ignored);
      return s;
    }
    written.listed = true;
  }
  return written;
}

}  // namespace mneme
