// Files and directories that the guest has open, by the numbers that it knows them by.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "vmm/core/share/directory_stream.h"
#include "vmm/core/share/host_inode.h"

namespace vmm {

// One open file. After the machine was resumed it has no descriptor before somebody asks for it.
class OpenFile {
 public:
  // `flags` of open(2), as far as they stay.
  OpenFile(uint64_t inode, int flags, bool is_directory, UniqueFd fd)
      : inode(inode), flags(flags), is_directory(is_directory), fd_(std::move(fd)) {}

  const uint64_t inode;
  const int flags;
  const bool is_directory;

  // The descriptor; reopen() gives it where there is none: OrErrno<UniqueFd>.
  template <class Reopen>
  OrErrno<int> Fd(const Reopen& reopen) {
    const std::lock_guard lock(mutex_);
    if (!fd_) {
      auto opened = reopen();
      if (!opened) return Errno(opened.error());
      fd_ = std::move(*opened);
    }
    return fd_.get();
  }

  std::mutex stream_mutex;  // guards:
  DirectoryStream stream;

 private:
  std::mutex mutex_;  // guards that fd_ is given once
  UniqueFd fd_;
};

// Any thread.
class OpenFiles {
 public:
  explicit OpenFiles(size_t most) : most_(most) {}

  // Its number; ENFILE: there are too many.
  OrErrno<uint64_t> Add(uint64_t inode, int flags, bool is_directory, UniqueFd fd);
  // EBADF: there is none.
  OrErrno<std::shared_ptr<OpenFile>> Find(uint64_t id, bool is_directory) const;
  void Remove(uint64_t id);
  void Clear();
  size_t size() const;

  struct Saved {
    uint64_t id = 0, inode = 0;
    int32_t flags = 0;
    bool is_directory = false;
    friend bool operator==(const Saved&, const Saved&) = default;
  };
  std::vector<Saved> Save() const;
  // Into an empty list. False, and it is empty again: they can't be.
  bool Load(const std::vector<Saved>& all);

 private:
  const size_t most_;
  mutable std::mutex mutex_;  // guards all below
  std::unordered_map<uint64_t, std::shared_ptr<OpenFile>> files_;
  uint64_t next_id_ = 1;
};

}  // namespace vmm
