// Compressed clusters: raw deflate or one zstd frame.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/block/qcow2_header.h"

namespace vmm {

// Fills `cluster` from `packed`, behind whose end of data anything may follow. False: it does not
// hold that much.
bool DecompressCluster(Qcow2Header::Compression compression, std::span<const uint8_t> packed,
                       std::span<uint8_t> cluster);

// Empty: it does not become smaller.
std::vector<uint8_t> CompressCluster(Qcow2Header::Compression compression,
                                     std::span<const uint8_t> cluster);

}  // namespace vmm
