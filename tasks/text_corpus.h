// SPDX-License-Identifier: Apache-2.0
//
// Real text, as bytes: a file, or a folder of files, of the user's, mapped into
// memory and cut into training, validation and test text by position:
//
//   file a   |------------- 90% -------------| 5% | 5% |
//   file b   |---- 90% ----| | |
//              training       validation     test
//
// A split is the files' parts one after another, in the order of their paths,
// so that a window of text may run from one file's part into the next one's,
// but no two splits share a byte.
//
// A folder stands for all regular files in it and below it, but hidden ones,
// empty ones and those that are no text; of files with equal content the first
// counts. What is text: no NUL, and at most one control character in a hundred
// bytes; whatever the encoding.
//
// The default text is English of 1.3 million bytes from Debian's package
// `fortunes`, always the same files of it.

#ifndef MNEME_TASKS_TEXT_CORPUS_H_
#define MNEME_TASKS_TEXT_CORPUS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attention/plugin/options.h"
#include "tasks/task.h"

namespace mneme {

// Immutable and thread-safe. The files must not be changed while it lives: a
// file that another program shortens takes the process with it.
class TextCorpus {
 public:
  // A path as a person gives it (UserPath); "" is the default text.
  // InvalidArgument, in one line with the path, if there is no text there.
  static absl::StatusOr<std::shared_ptr<const TextCorpus>> Open(
      const std::string& path);

  // What to call it in messages: the path.
  const std::string& name() const { return name_; }

  int64_t bytes() const { return bytes_; }
  int64_t bytes(Split split) const { return part(split).bytes; }

  // 16 hexadecimal digits: a hash of the content of all files, in order.
  const std::string& hash() const { return hash_; }

  // "13 files, 1334136 bytes, hash 0123456789abcdef": for records.
  std::string Identity() const;

  // How many of the 256 bytes occur.
  int distinct_bytes() const { return distinct_bytes_; }
  // How often the most frequent byte of a split occurs in it, in [0, 1].
  double LargestFrequency(Split split) const { return part(split).largest; }

  // Bytes number first, first + 1, ... of a split, which starts over at its
  // end. Precondition: first >= 0, bytes(split) > 0.
  void Read(Split split, int64_t first, absl::Span<int32_t> out) const;

 private:
  class Mapping;
  // A file's part of a split.
  struct Segment {
    int64_t first;  // its place in the split
    absl::string_view text;
  };
  struct Part {
    std::vector<Segment> segments;
    int64_t bytes = 0;
    double largest = 0;
  };

  TextCorpus() = default;
  const Part& part(Split split) const {
    return parts_[static_cast<size_t>(split)];
  }
  absl::Status AddFile(const std::string& path, bool named);
  absl::Status AddFolder(const std::string& path);
  void Cut();

  std::string name_;
  std::vector<std::unique_ptr<Mapping>> files_;
  std::vector<std::string> file_hashes_;
  int left_out_ = 0;  // empty or no text
  std::string hash_;
  int64_t bytes_ = 0;
  int distinct_bytes_ = 0;
  std::array<Part, 3> parts_;  // by split
};

// The options with which the user of a task chooses its text.
std::vector<OptionSpec> TextOptions();

// The text that options with TextOptions() among them choose. InvalidArgument
// as of Open, and for a text of another hash than was asked for.
absl::StatusOr<std::shared_ptr<const TextCorpus>> OpenText(
    const Options& options);

// How a byte is shown to people: "a", "\n", "xE9".
std::string TextTokenText(int32_t byte);

}  // namespace mneme

#endif  // MNEME_TASKS_TEXT_CORPUS_H_
