// SPDX-License-Identifier: Apache-2.0

#include "harness/npy_header.h"

#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "harness/npy.h"

namespace mneme {
namespace {

constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr size_t kAlignment = 64;  // of the data
// NumPy's own limit: no header of ours has a reason to be longer.
constexpr size_t kMaxHeaderBytes = 10000;

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// One printable line, in which quotes, which dicts are full of, stay as they
// are.
std::string Printable(absl::string_view text) {
  return absl::StrReplaceAll(absl::CHexEscape(text),
                             {{"\\'", "'"}, {"\\\"", "\""}});
}

// Reads the dict from front to back. The first thing that is not as expected
// fails the reader; whatever is read after that means nothing.
class DictReader {
 public:
  explicit DictReader(absl::string_view text) : text_(text) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

  // What is left when the dict has been read.
  absl::string_view rest() const { return text_.substr(at_); }

  // Skips spaces, and then the character if it comes next.
  bool Take(char c) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void Expect(char c) {
    if (!Take(c)) Fail(absl::StrCat("'", std::string(1, c), "'"));
  }

  // A string in single or double quotes.
  std::string String(absl::string_view what) {
    char quote = '\'';
    if (!Take(quote)) {
      quote = '"';
      if (!Take(quote)) {
        Fail(what);
        return "";
      }
    }
    const size_t end = text_.find(quote, at_);
    if (end == absl::string_view::npos) {
      Fail("a closing quote");
      return "";
    }
    const absl::string_view string = text_.substr(at_, end - at_);
    at_ = end + 1;
    return std::string(string);
  }

  bool Bool() {
    if (TakeWord("True")) return true;
    if (!TakeWord("False")) Fail("True or False");
    return false;
  }

  // A tuple of lengths: (), (2,), (2, 3).
  std::vector<int64_t> Shape() {
    std::vector<int64_t> shape;
    bool comma = true;  // between the last length and what follows
    Expect('(');
    while (ok() && !Take(')')) {
      if (!comma) {
        Fail("',' or ')'");
        break;
      }
      shape.push_back(Length());
      comma = Take(',');
    }
    // Without a comma, (2) is a number to Python.
    if (shape.size() == 1 && !comma) Fail("a tuple");
    return shape;
  }

  void Fail(absl::string_view expected) {
    if (!ok()) return;
    status_ = Bad("bad .npy header: expected ", expected, " at byte ", at_,
                  " of \"", Printable(text_), "\"");
  }

 private:
  bool TakeWord(absl::string_view word) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  int64_t Length() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    size_t end = at_;
    while (end < text_.size() && absl::ascii_isdigit(text_[end])) ++end;
    const absl::string_view digits = text_.substr(at_, end - at_);
    int64_t length = 0;
    // Python has no leading zeros.
    if (!absl::SimpleAtoi(digits, &length) ||
        (digits.size() > 1 && digits[0] == '0')) {
      Fail("a length");
      return 0;
    }
    at_ = end;
    return length;
  }

  absl::string_view text_;
  size_t at_ = 0;
  absl::Status status_;
};

// The number of elements of a shape and of their bytes.
absl::Status Measure(NpyHeader* header) {
  if (header->shape.size() > kMaxNpyRank) {
    return Bad("arrays of ", header->shape.size(),
               " axes are not supported, only up to ", kMaxNpyRank);
  }
  const std::string text = absl::StrJoin(header->shape, ", ");
  bool empty = false;
  header->elements = 1;
  header->data_bytes = header->is_double ? 8 : 4;
  for (const int64_t length : header->shape) {
    if (length < 0) return Bad("shape (", text, ") has a negative length");
    if (length == 0) {
      empty = true;
      continue;
    }
    if (__builtin_mul_overflow(header->data_bytes, length,
                               &header->data_bytes)) {
      return Bad("shape (", text, ") has more than 2^63 bytes");
    }
    header->elements *= length;
  }
  if (empty) header->elements = header->data_bytes = 0;
  return absl::OkStatus();
}

absl::Status ReadDescr(DictReader* reader, NpyHeader* header) {
  const std::string descr =
      reader->String("a string (a structured dtype is not supported)");
  if (!reader->ok()) return reader->status();
  if (descr != "<f4" && descr != "<f8") {
    return Bad("dtype '", Printable(descr),
               "' is not supported, only little-endian float32 '<f4' and "
               "float64 '<f8'");
  }
  header->is_double = descr == "<f8";
  return absl::OkStatus();
}

absl::Status ReadDict(absl::string_view text, NpyHeader* header) {
  DictReader reader(text);
  bool seen_descr = false;
  bool seen_order = false;
  bool seen_shape = false;
  reader.Expect('{');
  while (reader.ok() && !reader.Take('}')) {
    const std::string key = reader.String("a key");
    reader.Expect(':');
    if (!reader.ok()) break;
    bool* seen = nullptr;
    if (key == "descr") {
      seen = &seen_descr;
      const absl::Status status = ReadDescr(&reader, header);
      if (!status.ok()) return status;
    } else if (key == "fortran_order") {
      seen = &seen_order;
      header->fortran_order = reader.Bool();
    } else if (key == "shape") {
      seen = &seen_shape;
      header->shape = reader.Shape();
    }
    if (seen == nullptr || std::exchange(*seen, true)) {
      return Bad("bad .npy header: the key '", Printable(key),
                 seen == nullptr ? "' is unknown" : "' stands there twice");
    }
    if (!reader.Take(',')) {
      reader.Expect('}');
      break;
    }
  }
  if (!reader.ok()) return reader.status();
  if (!seen_descr || !seen_order || !seen_shape) {
    return Bad(
        "bad .npy header: one of descr, fortran_order and shape is "
        "missing");
  }
  absl::string_view rest = reader.rest();
  while (absl::ConsumePrefix(&rest, " ")) continue;
  if (rest != "\n") {
    return Bad("bad .npy header: it does not end in spaces and a newline");
  }
  return absl::OkStatus();
}

// The unsigned little-endian number that bytes are.
size_t LittleEndian(absl::string_view bytes) {
  size_t number = 0;
  for (size_t i = bytes.size(); i-- > 0;) {
    number = number << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return number;
}

}  // namespace

absl::StatusOr<NpyHeader> ParseNpyHeader(absl::string_view bytes) {
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return Bad("not a .npy file: it does not start with \\x93NUMPY");
  }
  const size_t version_end = kMagic.size() + 2;
  if (bytes.size() < version_end) return Bad("truncated .npy header");
  const int major = static_cast<unsigned char>(bytes[kMagic.size()]);
  const int minor = static_cast<unsigned char>(bytes[kMagic.size() + 1]);
  if (major < 1 || major > 3 || minor != 0) {
    return Bad(".npy version ", major, ".", minor,
               " is not supported, only 1.0, 2.0 and 3.0");
  }
  const size_t start = version_end + (major == 1 ? 2 : 4);
  if (bytes.size() < start) return Bad("truncated .npy header");
  const size_t length =
      LittleEndian(bytes.substr(version_end, start - version_end));
  if (length > kMaxHeaderBytes) {
    return Bad("bad .npy header: ", length,
               " bytes are more than the limit of ", kMaxHeaderBytes);
  }
  if (bytes.size() - start < length) {
    return Bad("truncated .npy header: expected ", length, " bytes, found ",
               bytes.size() - start);
  }
  NpyHeader header;
  header.data_start = start + length;
  absl::Status status = ReadDict(bytes.substr(start, length), &header);
  if (status.ok()) status = Measure(&header);
  if (!status.ok()) return status;
  return header;
}

absl::StatusOr<std::string> FormatNpyHeader(const std::vector<int64_t>& shape,
                                            bool is_double) {
  NpyHeader header;
  header.shape = shape;
  header.is_double = is_double;
  const absl::Status status = Measure(&header);
  if (!status.ok()) return status;
  std::string dict = absl::StrCat("{'descr': '", is_double ? "<f8" : "<f4",
                                  "', 'fortran_order': False, 'shape': (",
                                  absl::StrJoin(shape, ", "),
                                  shape.size() == 1 ? ",), }" : "), }");
  const size_t start = kMagic.size() + 4;
  const size_t end =
      (start + dict.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  dict.append(end - start - dict.size() - 1, ' ');
  dict.push_back('\n');
  // At most 8 axes of 19 digits: two bytes always hold the length.
  const char version_and_length[] = {1, 0,
                                     static_cast<char>(dict.size() & 0xFF),
                                     static_cast<char>(dict.size() >> 8)};
  return absl::StrCat(kMagic, absl::string_view(version_and_length, 4), dict);
}

}  // namespace mneme
