// The disk images of a machine, opened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/control/answer.h"
#include "vmm/core/block/disk.h"
#include "vmm/core/block/image_open.h"
#include "vmm/machine/board_disks.h"

namespace vmm {

class Disks {
 public:
  // Opens and locks every image, or says which can't be, with its exit code.
  static Result<std::unique_ptr<Disks>> Open(const Config& config);

  std::vector<BoardDisk> ForBoard() const;
  std::vector<control::DiskStatus> TellStatus() const;
  // Empty; or the disk that a suspended machine would not find again, and why.
  std::string WhyNotToSuspend() const;

 private:
  struct Entry {
    DiskSpec spec;
    ImageFormat format;
    unsigned queues;
    bool read_only;
    std::unique_ptr<Disk> disk;
  };
  std::vector<Entry> entries_;
};

}  // namespace vmm
