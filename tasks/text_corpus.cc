// SPDX-License-Identifier: Apache-2.0

#include "tasks/text_corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/plugin/user_path.h"
#include "attention/tensor/random.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

// The default text, by third_party/repositories.bzl.
constexpr char kDefaultFolder[] = "/usr/share/games/fortunes/";
constexpr const char* kDefaultFiles[] = {
    "art",         "computers",  "definitions",   "education", "humorists",
    "law",         "literature", "miscellaneous", "people",    "science",
    "songs-poems", "wisdom",     "work"};

using Histogram = std::array<int64_t, 256>;

template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::string Printable(absl::string_view path) {
  std::string text(path);
  for (char& c : text) {
    if (absl::ascii_iscntrl(c)) c = '?';
  }
  return text;
}

Histogram Count(absl::string_view text) {
  Histogram counts{};
  for (const char c : text) ++counts[static_cast<unsigned char>(c)];
  return counts;
}

// Why the bytes are no text, or "".
std::string WhyNoText(absl::string_view bytes) {
  if (bytes.empty()) return "is empty";
  const Histogram counts = Count(bytes);
  if (counts[0] > 0) {
    return absl::StrCat("is no text: byte ", bytes.find('\0'), " is NUL");
  }
  int64_t control = counts[0x7F];
  for (int c = 0; c < 0x20; ++c) {
    // Backspace, tab, line feed, vertical tab, form feed, carriage return and
    // escape are found in texts for terminals and printers.
    if ((c < 8 || c > 13) && c != 27) control += counts[c];
  }
  const int64_t most = static_cast<int64_t>(bytes.size()) / 100;
  if (control <= most) return "";
  return absl::StrCat("is no text: ", control, " of ", bytes.size(),
                      " bytes are control characters, ", most,
                      " (1%) is the most");
}

}  // namespace

// A file's content.
class TextCorpus::Mapping {
 public:
  static absl::StatusOr<std::unique_ptr<Mapping>> Open(
      const std::string& path) {
    const auto failure = [&path](const char* what) {
      return Refuse(Printable(path), ": ", what, ": ", std::strerror(errno));
    };
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return failure("cannot be read");
    struct stat status;
    std::unique_ptr<Mapping> mapping(new Mapping);
    absl::Status result;
    if (fstat(file, &status) != 0) {
      result = failure("cannot be read");
    } else if (status.st_size > 0) {
      void* data =
          mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
      if (data == MAP_FAILED) {
        result = failure("cannot be mapped into memory");
      } else {
        mapping->text_ =
            absl::string_view(static_cast<const char*>(data), status.st_size);
      }
    }
    close(file);
    if (!result.ok()) return result;
    return mapping;
  }

  ~Mapping() {
    if (!text_.empty()) munmap(const_cast<char*>(text_.data()), text_.size());
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  absl::string_view text() const { return text_; }

 private:
  Mapping() = default;
  absl::string_view text_;
};

// A file that was not named but found in a folder is left out if it is no text.
absl::Status TextCorpus::AddFile(const std::string& path, bool named) {
  absl::StatusOr<std::unique_ptr<Mapping>> file = Mapping::Open(path);
  if (!file.ok()) return file.status();
  const absl::string_view text = (*file)->text();
  if (const std::string why = WhyNoText(text); !why.empty()) {
    if (named) return Refuse(Printable(path), ": ", why);
    ++left_out_;
    return absl::OkStatus();
  }
  std::string hash = absl::StrFormat("%d %016x\n", text.size(), StreamId(text));
  if (absl::c_linear_search(file_hashes_, hash)) return absl::OkStatus();
  file_hashes_.push_back(std::move(hash));
  files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status TextCorpus::AddFolder(const std::string& path) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator entries(path, error);
  for (; !error && entries != fs::end(entries); entries.increment(error)) {
    if (entries->path().filename().native()[0] == '.') {
      entries.disable_recursion_pending();
    } else if (std::error_code broken_link;
               entries->is_regular_file(broken_link)) {
      found.push_back(entries->path().native());
    }
  }
  if (error) {
    return Refuse(Printable(path), ": cannot be listed: ", error.message());
  }
  absl::c_sort(found);
  for (const std::string& file : found) {
    const absl::Status status = AddFile(file, /*named=*/false);
    if (!status.ok()) return status;
  }
  if (!files_.empty()) return absl::OkStatus();
  return Refuse(Printable(path), ": holds no text file (", left_out_,
                " are empty or no text)");
}

void TextCorpus::Cut() {
  Histogram all{};
  std::array<Histogram, 3> counts{};
  for (const auto& file : files_) {
    const absl::string_view text = file->text();
    const size_t ends[] = {text.size() * 90 / 100, text.size() * 95 / 100,
                           text.size()};
    size_t begin = 0;
    for (size_t split = 0; split < parts_.size(); ++split) {
      const size_t end = ends[split];
      Part& part = parts_[split];
      if (end > begin) {
        part.segments.push_back({part.bytes, text.substr(begin, end - begin)});
        part.bytes += end - begin;
        const Histogram of_part = Count(part.segments.back().text);
        for (size_t c = 0; c < all.size(); ++c) {
          all[c] += of_part[c];
          counts[split][c] += of_part[c];
        }
      }
      begin = end;
    }
    bytes_ += text.size();
  }
  distinct_bytes_ = absl::c_count_if(all, [](int64_t n) { return n > 0; });
  for (size_t split = 0; split < parts_.size(); ++split) {
    if (parts_[split].bytes == 0) continue;
    parts_[split].largest =
        static_cast<double>(*absl::c_max_element(counts[split])) /
        static_cast<double>(parts_[split].bytes);
  }
  std::string hashes;
  for (const std::string& hash : file_hashes_) hashes += hash;
  hash_ = absl::StrFormat("%016x", StreamId(hashes));
}

absl::StatusOr<std::shared_ptr<const TextCorpus>> TextCorpus::Open(
    const std::string& path) {
  std::shared_ptr<TextCorpus> corpus(new TextCorpus);
  absl::Status status;
  if (path.empty()) {
    corpus->name_ = "the text of Debian's package fortunes";
    for (const char* file : kDefaultFiles) {
      status = corpus->AddFile(absl::StrCat(kDefaultFolder, file), true);
      if (!status.ok()) {
        return Refuse(status.message(),
                      "; apt-get install fortunes, or choose a text of your "
                      "own with path=FILE");
      }
    }
  } else {
    const std::string resolved = UserPath(path);
    corpus->name_ = Printable(resolved);
    std::error_code error;
    const fs::file_status type = fs::status(resolved, error);
    if (type.type() == fs::file_type::not_found) {
      return Refuse(corpus->name_, ": no such file or folder");
    }
    if (error) return Refuse(corpus->name_, ": ", error.message());
    if (fs::is_directory(type)) {
      status = corpus->AddFolder(resolved);
    } else if (fs::is_regular_file(type)) {
      status = corpus->AddFile(resolved, /*named=*/true);
    } else {
      status = Refuse(corpus->name_, ": is neither a file nor a folder");
    }
    if (!status.ok()) return status;
  }
  corpus->Cut();
  return std::shared_ptr<const TextCorpus>(std::move(corpus));
}

std::vector<OptionSpec> TextOptions() {
  return {OptionSpec::Text("path", "",
                           "the text, a file or a folder; of Debian's package "
                           "fortunes if empty"),
          OptionSpec::Text("data", "",
                           "the hash that the text must have, so that a "
                           "changed one is noticed; any if empty")};
}

absl::StatusOr<std::shared_ptr<const TextCorpus>> OpenText(
    const Options& options) {
  auto corpus = TextCorpus::Open(options.Text("path"));
  if (!corpus.ok()) return corpus.status();
  const std::string& wanted = options.Text("data");
  if (!wanted.empty() && wanted != (*corpus)->hash()) {
    return Refuse((*corpus)->name(), ": its hash is ", (*corpus)->hash(),
                  ", not data=", wanted, "; the text has changed");
  }
  return corpus;
}

std::string TextTokenText(int32_t byte) {
  switch (byte) {
    case ' ':
      return "\\s";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  if (byte > 0x20 && byte < 0x7F) return std::string(1, byte);
  return absl::StrFormat("x%02X", byte);
}

std::string TextCorpus::Identity() const {
  return absl::StrCat(files_.size(),
                      files_.size() == 1 ? " file, " : " files, ", bytes_,
                      " bytes, hash ", hash_);
}

void TextCorpus::Read(Split split, int64_t first,
                      absl::Span<int32_t> out) const {
  const Part& from = part(split);
  const int64_t place = first % from.bytes;
  auto segment = std::prev(absl::c_upper_bound(
      from.segments, place,
      [](int64_t p, const Segment& s) { return p < s.first; }));
  size_t skipped = place - segment->first;
  while (!out.empty()) {
    const absl::string_view text = segment->text.substr(skipped, out.size());
    std::transform(text.begin(), text.end(), out.begin(),
                   [](char c) { return static_cast<unsigned char>(c); });
    out.remove_prefix(text.size());
    skipped = 0;
    if (++segment == from.segments.end()) segment = from.segments.begin();
  }
}

}  // namespace mneme
