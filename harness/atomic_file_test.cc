// SPDX-License-Identifier: Apache-2.0

#include "harness/atomic_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace fs = std::filesystem;

// --- Faults ---
//
// The linker leads the system calls below through these wrappers
// (--wrap in BUILD), which fail when they are told to.

namespace {

struct Fault {
  std::string call;  // "" for none
  int error = 0;
  int from = 0;   // the first call to fail, from 1
  int count = 0;  // how many calls fail
  int calls = 0;  // seen so far
};
Fault fault;

bool Fails(const char* call) {
  if (fault.call != call) return false;
  ++fault.calls;
  if (fault.calls < fault.from || fault.calls >= fault.from + fault.count) {
    return false;
  }
  errno = fault.error;
  return true;
}

}  // namespace

extern "C" {
int __real_open(const char* path, int flags, ...);
ssize_t __real_write(int fd, const void* data, size_t size);
int __real_fsync(int fd);
int __real_close(int fd);
int __real_rename(const char* from, const char* to);
ssize_t __real_read(int fd, void* data, size_t size);

int __wrap_open(const char* path, int flags, ...) {
  if (Fails("open")) return -1;
  va_list arguments;
  va_start(arguments, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
  va_end(arguments);
  return __real_open(path, flags, mode);
}
ssize_t __wrap_write(int fd, const void* data, size_t size) {
  if (Fails("write")) return -1;
  // Never all at once, so that there are several calls to fail.
  return __real_write(fd, data, size > 100 ? 100 : size);
}
int __wrap_fsync(int fd) { return Fails("fsync") ? -1 : __real_fsync(fd); }
int __wrap_close(int fd) {
  // As on Linux, the descriptor is closed all the same.
  const int result = __real_close(fd);
  return Fails("close") ? -1 : result;
}
int __wrap_rename(const char* from, const char* to) {
  return Fails("rename") ? -1 : __real_rename(from, to);
}
ssize_t __wrap_read(int fd, void* data, size_t size) {
  if (Fails("read")) return -1;
  return __real_read(fd, data, size > 100 ? 100 : size);
}
}

namespace mneme {
namespace {

class AtomicFileTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = absl::StrCat(testing::TempDir(), "/atomic_file_test");
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    path_ = absl::StrCat(directory_, "/file");
  }
  void TearDown() override {
    fault = Fault();
    fs::remove_all(directory_);
  }

  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      names.insert(entry.path().filename());
    }
    return names;
  }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  static int OpenDescriptors() {
    return std::distance(fs::directory_iterator("/proc/self/fd"), {});
  }

  std::string directory_;
  std::string path_;
};

TEST_F(AtomicFileTest, WritesAndReadsBack) {
  for (const std::string& contents :
       {std::string("text\n"), std::string(), std::string("\0\xff\n\0", 4),
        std::string(10000, 'x')}) {
    EXPECT_EQ(WriteFileAtomically(path_, contents), absl::OkStatus());
    EXPECT_EQ(Contents(path_), contents);
    const absl::StatusOr<std::string> read = ReadFile(path_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, contents);
    EXPECT_EQ(Names(), std::set<std::string>{"file"});
  }
}

TEST_F(AtomicFileTest, RelativeNamesAreInTheWorkingDirectory) {
  const fs::path before = fs::current_path();
  fs::current_path(directory_);
  EXPECT_EQ(WriteFileAtomically("file", "text"), absl::OkStatus());
  EXPECT_EQ(CheckWritableDirectory(""), absl::OkStatus());
  fs::current_path(before);
  EXPECT_EQ(Contents(path_), "text");
  EXPECT_EQ(Names(), std::set<std::string>{"file"});
}

TEST_F(AtomicFileTest, NamesCanBeAsLongAsNamesCanBe) {
  const std::string path = absl::StrCat(directory_, "/", std::string(255, 'n'));
  EXPECT_EQ(WriteFileAtomically(path, "text"), absl::OkStatus());
  EXPECT_EQ(Contents(path), "text");
  const std::string too_long = path + "n";
  const absl::Status status = WriteFileAtomically(too_long, "text");
  EXPECT_EQ(status.message(),
            absl::StrCat("cannot write ", too_long, ": File name too long"));
  EXPECT_EQ(Names().size(), 1);
}

TEST_F(AtomicFileTest, TheUmaskDecidesWhoMayRead) {
  const mode_t before = umask(0027);
  EXPECT_EQ(WriteFileAtomically(path_, "text"), absl::OkStatus());
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640);
}

TEST_F(AtomicFileTest, OnlyRegularFilesAreReplaced) {
  fs::create_directory(path_);
  EXPECT_EQ(WriteFileAtomically(path_, "text").message(),
            absl::StrCat("cannot write ", path_, ": it is not a regular file"));
  EXPECT_TRUE(fs::is_directory(path_));
  // Stands for /dev/null and its like, which a test must not put at risk.
  const std::string pipe = absl::StrCat(directory_, "/pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(WriteFileAtomically(pipe, "text").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(Names(), (std::set<std::string>{"file", "pipe"}));
}

TEST_F(AtomicFileTest, ALinkIsReplacedAndItsTargetLeftAlone) {
  const std::string target = absl::StrCat(directory_, "/target");
  ASSERT_EQ(WriteFileAtomically(target, "old"), absl::OkStatus());
  fs::create_symlink(target, path_);
  EXPECT_EQ(WriteFileAtomically(path_, "new"), absl::OkStatus());
  EXPECT_EQ(Contents(target), "old");
  EXPECT_EQ(Contents(path_), "new");
}

TEST_F(AtomicFileTest, AMissingDirectoryIsNamed) {
  const std::string missing = absl::StrCat(directory_, "/no");
  const absl::Status status = WriteFileAtomically(missing + "/file", "text");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), absl::StrCat("cannot create a file in ", missing,
                                           ": No such file or directory"));
}

// What a killed process of the same id left behind is no obstacle.
TEST_F(AtomicFileTest, LeftoversAreSteppedOver) {
  for (int i = 0; i < 60; ++i) {
    std::ofstream(
        absl::StrCat(directory_, "/.mneme-", getpid(), "-", i, ".tmp"));
  }
  EXPECT_EQ(WriteFileAtomically(path_, "text"), absl::OkStatus());
  EXPECT_EQ(Contents(path_), "text");
}

TEST_F(AtomicFileTest, ConcurrentWritersLeaveOneOfTheirFiles) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(WriteFileAtomically(path_, std::string(5000, 'a' + thread)),
                  absl::OkStatus());
        const absl::StatusOr<std::string> read = ReadFile(path_);
        ASSERT_TRUE(read.ok()) << read.status();
        EXPECT_EQ(*read, std::string(5000, (*read)[0]));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Names(), std::set<std::string>{"file"});
}

// Each system call fails once, at each of its calls, and from there on for
// good: afterwards the file is the old one or the new one, as the status says,
// nothing else is in the directory, and no descriptor is lost.
TEST_F(AtomicFileTest, EveryFaultLeavesTheOldFileOrTheNewOne) {
  const std::string before(450, 'o');
  const std::string after(550, 'n');
  int faults = 0;
  for (const char* call : {"open", "write", "fsync", "close", "rename"}) {
    for (const int count : {1, 1000}) {
      for (int from = 1;; ++from) {
        SCOPED_TRACE(absl::StrCat(call, " ", from, " x", count));
        fault = Fault();
        ASSERT_EQ(WriteFileAtomically(path_, before), absl::OkStatus());
        const int descriptors = OpenDescriptors();
        fault = {call, EIO, from, count, 0};
        const absl::Status status = WriteFileAtomically(path_, after);
        const bool fired = fault.calls >= from;
        fault = Fault();
        EXPECT_EQ(OpenDescriptors(), descriptors);
        EXPECT_EQ(Names(), std::set<std::string>{"file"});
        if (!fired) {
          EXPECT_EQ(status, absl::OkStatus());
          break;
        }
        ++faults;
        const std::string contents = Contents(path_);
        if (status.ok()) {
          // Closing the directory after its sync cannot go wrong.
          EXPECT_STREQ(call, "close");
          EXPECT_EQ(contents, after);
        } else if (absl::StartsWith(status.message(), "cannot sync")) {
          EXPECT_EQ(contents, after);
        } else {
          EXPECT_EQ(contents, before);
        }
      }
    }
  }
  // open: file, directory. write: 6. fsync and close: file, directory. rename.
  EXPECT_EQ(faults, 2 * (2 + 6 + 2 + 2 + 1));
}

TEST_F(AtomicFileTest, ErrorsNamePathAndReason) {
  const auto message = [&](const char* call, int error, int from) {
    fault = {call, error, from, 1, 0};
    const absl::Status status = WriteFileAtomically(path_, "text");
    fault = Fault();
    return std::string(status.message());
  };
  EXPECT_EQ(message("open", EACCES, 1),
            absl::StrCat("cannot create a file in ", directory_,
                         ": Permission denied"));
  EXPECT_EQ(message("write", ENOSPC, 1),
            absl::StrCat("cannot write ", path_, ": No space left on device"));
  EXPECT_EQ(message("fsync", EIO, 1),
            absl::StrCat("cannot write ", path_, ": Input/output error"));
  EXPECT_EQ(message("close", EDQUOT, 1),
            absl::StrCat("cannot write ", path_, ": Disk quota exceeded"));
  EXPECT_EQ(message("rename", EROFS, 1),
            absl::StrCat("cannot write ", path_, ": Read-only file system"));
  EXPECT_EQ(message("fsync", EIO, 2),
            absl::StrCat("cannot sync ", directory_, ": Input/output error"));
  EXPECT_EQ(message("fsync", EINVAL, 2), "");  // needs no sync
}

TEST_F(AtomicFileTest, InterruptionsAreNoFailures) {
  const std::string contents(550, 'n');
  for (const char* call : {"open", "write", "fsync", "close"}) {
    for (const int count : {1, 2}) {
      fault = {call, EINTR, 1, count, 0};
      EXPECT_EQ(WriteFileAtomically(path_, contents), absl::OkStatus()) << call;
      EXPECT_GE(fault.calls, count) << call;
      fault = Fault();
      EXPECT_EQ(Contents(path_), contents) << call;
    }
  }
  for (const char* call : {"open", "read"}) {
    fault = {call, EINTR, 1, 2, 0};
    const absl::StatusOr<std::string> read = ReadFile(path_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, contents) << call;
    EXPECT_GE(fault.calls, 2) << call;
  }
}

// A real full disk, as far as one can be had: the limit on file sizes.
TEST_F(AtomicFileTest, WhatDoesNotFitLeavesTheOldFile) {
  ASSERT_EQ(WriteFileAtomically(path_, "old"), absl::OkStatus());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit = {1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status =
      WriteFileAtomically(path_, std::string(5000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.message(),
            absl::StrCat("cannot write ", path_, ": File too large"));
  EXPECT_EQ(Contents(path_), "old");
  EXPECT_EQ(Names(), std::set<std::string>{"file"});
}

TEST_F(AtomicFileTest, ReadingRefusesWhatIsNoFileOrTooLarge) {
  EXPECT_EQ(ReadFile(path_).status(),
            absl::NotFoundError(absl::StrCat("cannot read ", path_,
                                             ": No such file or directory")));
  EXPECT_EQ(ReadFile(directory_).status(),
            absl::FailedPreconditionError(absl::StrCat(
                "cannot read ", directory_, ": it is not a regular file")));
  const std::string pipe = absl::StrCat(directory_, "/pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReadFile(pipe).status().code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(WriteFileAtomically(path_, "12345"), absl::OkStatus());
  EXPECT_TRUE(ReadFile(path_, 5).ok());
  EXPECT_EQ(ReadFile(path_, 4).status(),
            absl::ResourceExhaustedError(
                absl::StrCat("cannot read ", path_,
                             ": it has 5 bytes, more than the limit of 4")));
  fault = {"read", EIO, 1, 1, 0};
  EXPECT_EQ(ReadFile(path_).status().message(),
            absl::StrCat("cannot read ", path_, ": Input/output error"));
}

TEST_F(AtomicFileTest, DirectoriesAreCreated) {
  const std::string nested = absl::StrCat(directory_, "/a/b/c");
  EXPECT_EQ(CheckWritableDirectory(nested), absl::OkStatus());
  EXPECT_TRUE(fs::is_directory(nested));
  EXPECT_TRUE(fs::is_empty(nested));
  EXPECT_EQ(CheckWritableDirectory(nested + "/"), absl::OkStatus());
}

TEST_F(AtomicFileTest, ImpossibleDirectoriesAreFound) {
  ASSERT_EQ(WriteFileAtomically(path_, "text"), absl::OkStatus());
  for (const std::string& path : {path_, path_ + "/sub"}) {
    EXPECT_EQ(CheckWritableDirectory(path).message(),
              absl::StrCat("cannot create the directory ", path,
                           ": Not a directory"));
  }
  EXPECT_FALSE(CheckWritableDirectory("/proc/mneme").ok());
  fault = {"open", EROFS, 1, 1, 0};
  EXPECT_EQ(CheckWritableDirectory(directory_).message(),
            absl::StrCat("cannot create a file in ", directory_,
                         ": Read-only file system"));
  fault = {"write", ENOSPC, 1, 1, 0};
  EXPECT_EQ(CheckWritableDirectory(directory_).message(),
            absl::StrCat("cannot write a file in ", directory_,
                         ": No space left on device"));
  EXPECT_EQ(Names(), std::set<std::string>{"file"});
}

}  // namespace
}  // namespace mneme
