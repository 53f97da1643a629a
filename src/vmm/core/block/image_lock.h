// Locks on a disk image that QEMU and its tools honour, and that honour theirs: OFD locks on single
// bytes of the file, byte 100 + n for a right that is held and 200 + n for one that nobody else may
// hold. They end by UnlockImage(), or with the last descriptor of the open file, which an io_uring
// may keep for some milliseconds after its program's end.
#pragma once

#include <string>

#include "vmm/core/base/result.h"

namespace vmm {

// For one that writes: nobody else may read or write the image. For a reader: nobody may write it.
// Waits up to a second for one that has it. Error: kImageLocked. A file system without locks gives
// none, and no error.
Result<void> LockImage(int fd, bool for_write, const std::string& name);
// The same, without waiting.
Result<void> TryToLockImage(int fd, bool for_write, const std::string& name);
void UnlockImage(int fd);

}  // namespace vmm
