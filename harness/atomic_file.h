// SPDX-License-Identifier: Apache-2.0
//
// Files that are whole or not there. Paths are relative to the process's
// working directory. Errors are one line that names the path and the system's
// reason. All functions may be called from any thread.

#ifndef MNEME_HARNESS_ATOMIC_FILE_H_
#define MNEME_HARNESS_ATOMIC_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mneme {

// Makes `contents` the contents of the file: writes them under a temporary name
// in the same directory, syncs, renames, and syncs the directory. At any
// moment, a crash or kill -9 included, the path holds the old file or the new
// one, never a part; only the temporary file, named .mneme-*.tmp, can be left
// by a kill. A returned error leaves nothing new behind, unless it is that the
// directory cannot be synced: then the new file stands, but a power failure may
// undo it.
//
// Refuses, with FailedPrecondition, to replace what is no regular file. A
// symbolic link to one is replaced by the file, its target left alone.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view contents);

inline constexpr int64_t kMaxFileBytes = int64_t{4} << 30;

// The contents of a regular file. NotFound if there is none, FailedPrecondition
// for a directory or device, ResourceExhausted, before anything is read, if it
// has more than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     int64_t max_bytes = kMaxFileBytes);

// Makes sure, before hours of work, that files can be written to a directory:
// creates it and its parents if missing, and tries with a file, as permissions
// alone say nothing of a read-only or full disk. "" is the working directory.
absl::Status CheckWritableDirectory(const std::string& path);

// The same for a file that is to be written: its directory is writable and it
// is not itself a directory or a device. InvalidArgument for a path that names
// no file.
absl::Status CheckWritableFile(const std::string& path);

// What precedes the last slash of a path: "." without one, "/" at the root.
std::string DirectoryOf(const std::string& path);

}  // namespace mneme

#endif  // MNEME_HARNESS_ATOMIC_FILE_H_
