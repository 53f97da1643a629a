// The entries of an open directory, from any place that was told before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/share/host_inode.h"

namespace vmm {

// Not thread-safe. Errors are errno.
class DirectoryStream {
 public:
  struct Entry {
    uint64_t number = 0;  // of the inode
    uint64_t next = 0;    // where the entry behind it begins
    uint8_t type = 0;     // DT_...
    std::string name;
  };

  // 0 is the beginning, and what is there is read anew; all else is what an entry said.
  OrErrno<void> Seek(int fd, uint64_t offset);
  // The entry at the place; null at the end. Stays until the next call.
  OrErrno<const Entry*> Look(int fd);
  // To the one behind what Look() gave.
  void Next();

 private:
  std::vector<uint8_t> buffer_;
  size_t at_ = 0, filled_ = 0;
  uint64_t place_ = 0;  // in the directory, of the entry at at_
  bool has_entry_ = false;
  size_t entry_size_ = 0;
  Entry entry_;
};

}  // namespace vmm
