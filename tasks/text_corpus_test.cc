// SPDX-License-Identifier: Apache-2.0

#include "tasks/text_corpus.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

constexpr Split kSplits[] = {Split::kTrain, Split::kValidation, Split::kTest};

class TextCorpusTest : public testing::Test {
 protected:
  TextCorpusTest()
      : folder_(absl::StrCat(
            testing::TempDir(), "/",
            testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(folder_, "/", name);
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::string folder_;
};

std::shared_ptr<const TextCorpus> Open(const std::string& path) {
  auto corpus = TextCorpus::Open(path);
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  return corpus.ok() ? *corpus : nullptr;
}

std::string Refusal(const std::string& path) {
  const absl::Status status = TextCorpus::Open(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::string Read(const TextCorpus& corpus, Split split, int64_t first,
                 int64_t count) {
  std::vector<int32_t> bytes(count);
  corpus.Read(split, first, absl::MakeSpan(bytes));
  return std::string(bytes.begin(), bytes.end());
}

std::string All(const TextCorpus& corpus, Split split) {
  return Read(corpus, split, 0, corpus.bytes(split));
}

std::string Numbered(int bytes, char first) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(first + i % 20);
  return text;
}

TEST_F(TextCorpusTest, AFileIsCutByPosition) {
  const std::string text = Numbered(203, 'a');
  const auto corpus = Open(Write("a", text));
  EXPECT_EQ(corpus->bytes(), 203);
  EXPECT_EQ(All(*corpus, Split::kTrain), text.substr(0, 182));
  EXPECT_EQ(All(*corpus, Split::kValidation), text.substr(182, 10));
  EXPECT_EQ(All(*corpus, Split::kTest), text.substr(192));
  EXPECT_EQ(corpus->distinct_bytes(), 20);
}

TEST_F(TextCorpusTest, FilesOfAFolderAreCutEachAndReadInTheOrderOfTheirPaths) {
  const std::string b = Numbered(100, 'a'), a = Numbered(40, 'A');
  Write("b", b);
  Write("a/x", a);
  const auto corpus = Open(folder_);
  EXPECT_EQ(All(*corpus, Split::kTrain), a.substr(0, 36) + b.substr(0, 90));
  EXPECT_EQ(All(*corpus, Split::kValidation),
            a.substr(36, 2) + b.substr(90, 5));
  EXPECT_EQ(All(*corpus, Split::kTest), a.substr(38) + b.substr(95));
}

TEST_F(TextCorpusTest, EveryRangeIsReadAlikeAndInACircle) {
  Write("a", Numbered(40, 'A'));
  Write("b", "x");  // has test text alone
  Write("c", Numbered(100, 'a'));
  const auto corpus = Open(folder_);
  for (const Split split : kSplits) {
    const std::string once = All(*corpus, split);
    const int64_t bytes = corpus->bytes(split);
    const std::string thrice = once + once + once;
    for (int64_t first = 0; first < bytes; ++first) {
      for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{3}, bytes}) {
        EXPECT_EQ(Read(*corpus, split, first, count),
                  thrice.substr(first, count));
      }
      EXPECT_EQ(Read(*corpus, split, first + bytes, bytes + 1),
                thrice.substr(first, bytes + 1));
    }
  }
}

TEST_F(TextCorpusTest, FoldersLeaveOutWhatIsNoText) {
  const std::string text = Numbered(100, 'a');
  Write("text", text);
  Write("twin", text);
  Write("empty", "");
  Write("binary", std::string("a\0b", 3));
  Write(".hidden", "hidden");
  Write(".git/config", "hidden too");
  fs::create_symlink("text", absl::StrCat(folder_, "/link"));
  fs::create_symlink("nowhere", absl::StrCat(folder_, "/broken"));
  fs::create_directory_symlink(".", absl::StrCat(folder_, "/loop"));
  ASSERT_EQ(mkfifo(absl::StrCat(folder_, "/fifo").c_str(), 0600), 0);
  const auto corpus = Open(folder_);
  EXPECT_EQ(corpus->bytes(), 100);
  EXPECT_TRUE(absl::StartsWith(corpus->Identity(), "1 file, 100 bytes, hash "));
  EXPECT_EQ(corpus->hash(), Open(absl::StrCat(folder_, "/text"))->hash());
}

TEST_F(TextCorpusTest, TheHashTellsTextsApart) {
  const std::string path = Write("a", Numbered(100, 'a'));
  const std::string hash = Open(path)->hash();
  EXPECT_EQ(hash.size(), 16);
  EXPECT_EQ(Open(path)->hash(), hash);
  Write("a", Numbered(101, 'a'));
  const std::string longer = Open(path)->hash();
  EXPECT_NE(longer, hash);
  Write("a", Numbered(101, 'b'));
  EXPECT_NE(Open(path)->hash(), longer);
  // The same bytes, in two files.
  Write("a", Numbered(100, 'a').substr(0, 50));
  Write("b", Numbered(100, 'a').substr(50));
  EXPECT_NE(Open(folder_)->hash(), hash);
}

TEST_F(TextCorpusTest, AnyEncodingIsText) {
  EXPECT_NE(Open(Write("utf8", "na\xC3\xAFve \xE2\x82\xAC")), nullptr);
  EXPECT_NE(Open(Write("latin1", "na\xEFve")), nullptr);
  EXPECT_NE(Open(Write("typewriter", "_\b_\x1B[1m\f\r\n")), nullptr);
  EXPECT_NE(Open(Write("rare", std::string(99, 'a') + "\x01")), nullptr);
}

TEST_F(TextCorpusTest, WhatIsNoTextIsRefusedInOneLine) {
  const std::string in = folder_ + "/";
  EXPECT_EQ(Refusal(in + "x"), in + "x: no such file or folder");
  EXPECT_EQ(Refusal(Write("empty", "")), in + "empty: is empty");
  EXPECT_EQ(Refusal(Write("nul", std::string("ab\0c", 4))),
            in + "nul: is no text: byte 2 is NUL");
  EXPECT_EQ(Refusal(Write("control", std::string(98, 'a') + "\x01\x7F")),
            in + "control: is no text: 2 of 100 bytes are control characters, "
                 "1 (1%) is the most");
  EXPECT_EQ(Refusal(folder_), folder_ +
                                  ": holds no text file (3 are empty or "
                                  "no text)");
  fs::create_directory(in + "none");
  EXPECT_EQ(Refusal(in + "none"),
            in + "none: holds no text file (0 are empty or no text)");
  ASSERT_EQ(mkfifo((in + "fifo").c_str(), 0600), 0);
  EXPECT_EQ(Refusal(in + "fifo"), in + "fifo: is neither a file nor a folder");
}

// While one lives, permissions hold for root, too: this thread does without its
// right to read everything.
class PermissionsHold {
 public:
  PermissionsHold() {
    EXPECT_EQ(syscall(SYS_capget, &header_, all_), 0);
    __user_cap_data_struct fewer[2] = {all_[0], all_[1]};
    fewer[0].effective &=
        ~((1u << CAP_DAC_OVERRIDE) | (1u << CAP_DAC_READ_SEARCH));
    EXPECT_EQ(syscall(SYS_capset, &header_, fewer), 0);
  }
  ~PermissionsHold() { EXPECT_EQ(syscall(SYS_capset, &header_, all_), 0); }

 private:
  __user_cap_header_struct header_ = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct all_[2] = {};
};

TEST_F(TextCorpusTest, UnreadableFilesAndFoldersAreRefused) {
  const PermissionsHold hold;
  const std::string path = Write("secret/a", "text");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  EXPECT_EQ(Refusal(path), path + ": cannot be read: Permission denied");
  EXPECT_EQ(Refusal(folder_), path + ": cannot be read: Permission denied");
  const std::string secret = folder_ + "/secret";
  ASSERT_EQ(chmod(secret.c_str(), 0), 0);
  EXPECT_EQ(Refusal(folder_),
            folder_ + ": cannot be listed: Permission denied");
  ASSERT_EQ(chmod(secret.c_str(), 0700), 0);  // to be removed
}

TEST_F(TextCorpusTest, RelativePathsAreWhereThePersonIs) {
  Write("a", "text");
  setenv("BUILD_WORKING_DIRECTORY", folder_.c_str(), 1);
  EXPECT_EQ(Open("a")->name(), folder_ + "/a");
  unsetenv("BUILD_WORKING_DIRECTORY");
}

TEST_F(TextCorpusTest, TheDefaultIsMuchText) {
  const auto corpus = Open("");
  EXPECT_GT(corpus->bytes(), 1'000'000);
  EXPECT_GT(corpus->distinct_bytes(), 80);
  // One in seven or so is a space.
  for (const Split split : kSplits) {
    EXPECT_GT(corpus->LargestFrequency(split), 0.1);
    EXPECT_LT(corpus->LargestFrequency(split), 0.3);
  }
}

}  // namespace
}  // namespace mneme
