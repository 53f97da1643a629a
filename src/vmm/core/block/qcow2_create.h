// Makes an empty qcow2 image in a file.
#pragma once

#include "vmm/core/block/block_file.h"
#include "vmm/core/block/qcow2_header.h"

namespace vmm {

// Of the header only what its maker chooses counts: version, cluster_bits, size, refcount_order,
// compatible, compression, backing_file and backing_format. The file is empty; afterwards it is
// durable. Gives 0 or an errno; EFBIG: the disk is too large for its clusters.
int CreateQcow2(BlockFile& file, Qcow2Header header);

}  // namespace vmm
