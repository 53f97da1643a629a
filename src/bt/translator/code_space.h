// Memory of translated code: one memfd, written through one mapping and run through another, so
// that no page is ever both. It lies behind its vCPU in one reservation, so that code reaches the
// vCPU's state relative to RIP and holds no absolute address of the host.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bt/translator/assembler.h"
#include "vmm/core/base/result.h"

namespace bt {

class CodeSpace {
 public:
  // A place in the space: bytes from its start.
  using Offset = uint32_t;

  // Maps `size` bytes of code to run at `run`, an address range that its owner has reserved, and
  // that is reserved again afterwards. `nameless`: of no file, since perf asks its map of names
  // (perf_map.h) only then.
  CodeSpace(uint8_t* run, size_t size, bool nameless = false);
  // Of memory that somebody else has mapped to be written at `write`, next to the variables that
  // the code names, and in another process at `run`, next to the same variables.
  CodeSpace(uint8_t* write, uint8_t* run, size_t size);
  ~CodeSpace();
  CodeSpace(const CodeSpace&) = delete;
  CodeSpace& operator=(const CodeSpace&) = delete;

  // Each grows by itself, a chunk of the space at a time: what is often run, and what rarely is, of
  // translations, and of the ways between them. Either two may be written by a thread of its own.
  Assembler& hot() { return areas_[0].code; }
  Assembler& cold() { return areas_[1].code; }
  Assembler& thunks() { return areas_[2].code; }
  Assembler& thunk_stubs() { return areas_[3].code; }
  Offset OffsetOf(const Assembler& code) const {
    return static_cast<Offset>(code.getCurr() - write_);
  }
  // Where it runs.
  uint8_t* run(Offset offset) const { return run_ + offset; }
  // Where it can be read, and is as far from the variables that it names as where it runs.
  const uint8_t* seen(Offset offset) const { return seen_ + offset; }

  // Before code is put, of at most so many bytes in each area of those two, and no more than
  // kMostAtOnce: sees to room, of which the host maps many pages at once. False: the space is full.
  bool Prepare(size_t bytes) { return Prepare(areas_[0], bytes) && Prepare(areas_[1], bytes); }
  bool PrepareThunk(size_t bytes) { return Prepare(areas_[2], bytes) && Prepare(areas_[3], bytes); }
  static constexpr size_t kMostAtOnce = 32 * 1024;
  // Makes the 32-bit displacement at `at`, the end of a jump or call, lead to `target`.
  void PatchJump(Offset at, Offset target);
  void Patch32(Offset at, uint32_t value);
  void Clear();

 private:
  static constexpr size_t kChunkBytes = 256 * 1024;
  // What is mapped at once.
  static constexpr size_t kReadyBytes = 128 * 1024;
  struct Area {
    Assembler code;    // all of the space, but it stands in the area's chunk
    size_t ready = 0;  // up to where that is mapped
    size_t end = 0;    // of the chunk
  };
  bool Prepare(Area& area, size_t bytes) {
    return area.code.getSize() + bytes <= area.ready || MakeReady(area, bytes);
  }
  bool MakeReady(Area& area, size_t bytes);
  static std::array<Area, 4> MakeAreas(uint8_t* write, ptrdiff_t to_run, size_t size);

  uint8_t* run_;
  size_t size_;
  uint8_t* write_;
  const uint8_t* seen_;
  bool owner_;  // of both mappings
  std::array<Area, 4> areas_;
  std::atomic<size_t> given_ = 0;  // to areas
};

}  // namespace bt
