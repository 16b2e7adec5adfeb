// SPDX-License-Identifier: Apache-2.0

#include "harness/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// "cannot write x: No space left on device", from errno.
absl::Status Failed(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

// Calls again what a signal interrupted.
template <typename Call>
auto Retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// A file that is deleted again unless it is renamed.
class TemporaryFile {
 public:
  // Not named after the final file, whose name may be as long as names can be.
  static absl::StatusOr<TemporaryFile> Create(const std::string& directory) {
    static std::atomic<uint64_t> last_number = 0;
    // Another machine on a shared disk, or a process that was killed, may have
    // had this process's id; not a hundred of them.
    for (int attempt = 0;; ++attempt) {
      std::string path = absl::StrCat(directory, "/.mneme-", getpid(), "-",
                                      ++last_number, ".tmp");
      // Readable by whom the umask lets read, as by fopen.
      const int fd = Retry([&] {
        return open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                    0666);
      });
      if (fd >= 0) return TemporaryFile(std::move(path), fd);
      if (errno != EEXIST || attempt == 100) {
        return Failed("create a file in", directory);
      }
    }
  }

  TemporaryFile(TemporaryFile&& other) noexcept
      : path_(std::exchange(other.path_, "")),
        fd_(std::exchange(other.fd_, -1)) {}
  TemporaryFile& operator=(TemporaryFile&&) = delete;

  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (!path_.empty()) unlink(path_.c_str());
  }

  // These return false with errno set.

  bool Write(absl::string_view contents) {
    while (!contents.empty()) {
      const ssize_t written =
          Retry([&] { return write(fd_, contents.data(), contents.size()); });
      if (written < 0) return false;
      contents.remove_prefix(written);
    }
    return true;
  }

  bool SyncAndClose() {
    if (Retry([&] { return fsync(fd_); }) != 0) return false;
    // Linux closes the descriptor even if a signal interrupts; network file
    // systems may only now say that the disk is full.
    return close(std::exchange(fd_, -1)) == 0 || errno == EINTR;
  }

  bool RenameTo(const std::string& path) {
    if (rename(path_.c_str(), path.c_str()) != 0) return false;
    path_.clear();
    return true;
  }

 private:
  TemporaryFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

// Makes a rename in the directory durable. Some file systems cannot sync a
// directory, say so with EINVAL, and need no sync.
bool SyncDirectory(const std::string& directory) {
  const int fd = Retry([&] {
    return open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  });
  if (fd < 0) return false;
  const bool synced = Retry([&] { return fsync(fd); }) == 0 || errno == EINVAL;
  const int error = errno;
  close(fd);
  errno = error;
  return synced;
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view contents) {
  struct stat old;
  if (stat(path.c_str(), &old) == 0 && !S_ISREG(old.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot write ", path, ": it is not a regular file"));
  }
  const std::string directory = DirectoryOf(path);
  absl::StatusOr<TemporaryFile> file = TemporaryFile::Create(directory);
  if (!file.ok()) return file.status();
  if (!file->Write(contents) || !file->SyncAndClose() ||
      !file->RenameTo(path)) {
    return Failed("write", path);
  }
  if (!SyncDirectory(directory)) return Failed("sync", directory);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     int64_t max_bytes) {
  // Opening a pipe would otherwise wait for a writer.
  const int fd = Retry(
      [&] { return open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); });
  if (fd < 0) return Failed("read", path);
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat info;
  if (fstat(fd, &info) != 0) return Failed("read", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot read ", path, ": it is not a regular file"));
  }
  if (info.st_size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot read ", path, ": it has ", info.st_size,
                     " bytes, more than the limit of ", max_bytes));
  }
  // A file that grows meanwhile is read to the size it had; one that shrinks,
  // to the size it has.
  std::string contents(info.st_size, '\0');
  size_t filled = 0;
  while (filled < contents.size()) {
    const ssize_t count = Retry(
        [&] { return read(fd, &contents[filled], contents.size() - filled); });
    if (count < 0) return Failed("read", path);
    if (count == 0) break;
    filled += count;
  }
  contents.resize(filled);
  return contents;
}

absl::Status CheckWritableDirectory(const std::string& path) {
  const std::string directory = path.empty() ? "." : path;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    errno = error.value();
    return Failed("create the directory", directory);
  }
  absl::StatusOr<TemporaryFile> file = TemporaryFile::Create(directory);
  if (!file.ok()) return file.status();
  if (!file->Write("x") || !file->SyncAndClose()) {
    return Failed("write a file in", directory);
  }
  return absl::OkStatus();
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status CheckWritableFile(const std::string& path) {
  if (path.empty() || path.back() == '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" names no file to write"));
  }
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot write ", path, ": it is not a regular file"));
  }
  return CheckWritableDirectory(DirectoryOf(path));
}

}  // namespace mneme
