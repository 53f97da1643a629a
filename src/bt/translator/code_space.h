// Memory of translated code: one memfd, written through one mapping and run through another, so
// that no page is ever both. It lies behind its vCPU in one reservation, so that code reaches the
// vCPU's state relative to RIP and holds no absolute address of the host.
#pragma once

#include <array>
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
  // that is reserved again afterwards; half for hot code, half
  // for what is rarely run. `nameless`: of no file, since perf asks its map of names (perf_map.h)
  // only then.
  CodeSpace(uint8_t* run, size_t size, bool nameless = false);
  // Of memory that somebody else has mapped to be written at `write`, next to the variables that
  // the code names, and in another process at `run`, next to the same variables.
  CodeSpace(uint8_t* write, uint8_t* run, size_t size);
  ~CodeSpace();
  CodeSpace(const CodeSpace&) = delete;
  CodeSpace& operator=(const CodeSpace&) = delete;

  Assembler& hot() { return halves_[0].code; }
  Assembler& cold() { return halves_[1].code; }
  Offset OffsetOf(const Assembler& code) const {
    return static_cast<Offset>(code.getCurr() - write_);
  }
  // Where it runs.
  uint8_t* run(Offset offset) const { return run_ + offset; }
  // Where it can be read, and is as far from the variables that it names as where it runs.
  const uint8_t* seen(Offset offset) const { return seen_ + offset; }

  // Whether `bytes` fit in both halves.
  bool HasRoom(size_t bytes) const;
  // Before code of so many bytes is put: has the host map what it needs, many pages at once.
  void Prepare(size_t bytes) {
    for (Half& half : halves_) {
      if (half.code.getSize() + bytes > half.ready) MakeReady(half, bytes);
    }
  }
  // Makes the 32-bit displacement at `at`, the end of a jump or call, lead to `target`.
  void PatchJump(Offset at, Offset target);
  void Patch32(Offset at, uint32_t value);
  void Clear();

 private:
  // What is mapped at once.
  static constexpr size_t kReadyBytes = 128 * 1024;
  struct Half {
    Assembler code;
    size_t start;
    size_t ready = 0;  // bytes that are mapped
  };
  void MakeReady(Half& half, size_t bytes);

  uint8_t* run_;
  size_t size_;
  uint8_t* write_;
  const uint8_t* seen_;
  bool owner_;  // of both mappings
  std::array<Half, 2> halves_;
};

}  // namespace bt
