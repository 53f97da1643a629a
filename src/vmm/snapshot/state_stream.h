// The order of a saved machine's bytes, without file, compression or checksum around it:
//
//   sections   name length (1 byte, 1 to 64), name, version (4), length (8), bytes
//   end        one byte 0
//   memory     size of guest RAM (8), then runs of whole pages that are not all zero:
//              offset in RAM (8), length (8), bytes; the last run has offset and length 0
//
// Numbers are little endian.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/snapshot/sections.h"

namespace vmm {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual Result<void> Write(std::span<const uint8_t> bytes) = 0;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills all of `bytes`; kConfigInvalid when there are not so many.
  virtual Result<void> Read(std::span<uint8_t> bytes) = 0;
};

Result<void> WriteSections(const Sections& sections, ByteSink& sink);
Result<Sections> ReadSections(ByteSource& source);

// No vCPU runs. RAM that the host has never touched is skipped without being touched.
Result<void> WriteMemory(const GuestMemory& memory, ByteSink& sink);
// Into RAM that is all zero. On an error some of it has been written.
Result<void> ReadMemory(ByteSource& source, const GuestMemory& memory);

}  // namespace vmm
