// Lists of buffers, as readv(2) takes them, and pieces of them.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

namespace vmm {

using IoBuffers = std::span<const iovec>;

uint64_t TotalLength(IoBuffers buffers);

// `length` bytes of `buffers`, from byte `skip` on. They must be there.
std::vector<iovec> Slice(IoBuffers buffers, uint64_t skip, uint64_t length);

void FillZero(IoBuffers buffers);
// Fills all of `buffers` from `bytes`, which has at least as many.
void CopyInto(IoBuffers buffers, std::span<const uint8_t> bytes);
std::vector<uint8_t> CopyOf(IoBuffers buffers);

bool IsZero(std::span<const uint8_t> bytes);

}  // namespace vmm
