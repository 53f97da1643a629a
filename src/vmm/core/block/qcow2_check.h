// Is a qcow2 image consistent? And can what is not be mended?
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_file.h"
#include "vmm/core/block/qcow2_header.h"

namespace vmm {

struct Qcow2CheckReport {
  static constexpr size_t kMaxMessages = 20;

  uint64_t corruptions = 0;  // what can destroy data: a cluster in use that is counted too low, ...
  uint64_t unmendable = 0;   // of them: entries that make no sense
  uint64_t leaks = 0;        // clusters that are counted and not used; harmless
  uint64_t clusters = 0;     // of the disk
  uint64_t allocated = 0;    // of them: held by this image
  uint64_t compressed = 0;   // of those
  uint64_t end = 0;          // of the last cluster in use, bytes
  std::vector<std::string> messages;  // the first kMaxMessages
};

// Memory: at most 5 bytes a cluster of the file. Error: the image can't be read, or is too large
// for that.
using CheckProgress = std::function<void(uint64_t done, uint64_t all)>;
Result<Qcow2CheckReport> CheckQcow2(BlockFile& file, const CheckProgress& progress = {});

// Writes all refcounts anew, and what follows from them, and takes the marks "dirty" and "corrupt"
// away; afterwards the image has neither leaks nor mendable corruptions. Power may fail at any
// time. Error: kImageCorrupt if something is unmendable; the image is unchanged then.
Result<void> RepairQcow2(BlockFile& file);

}  // namespace vmm
