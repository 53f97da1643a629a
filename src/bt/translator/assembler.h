// xbyak, for code that is written in one place and runs in another.
#pragma once

#include <xbyak/xbyak.h>

#include <cstdint>

namespace bt {

class Assembler : public Xbyak::CodeGenerator {
 public:
  // Writes to `write`; seen from the variables that it names, the same bytes run at
  // `write + to_run`.
  Assembler(uint8_t* write, ptrdiff_t to_run, size_t size)
      : CodeGenerator(size, write), to_run_(to_run) {}

  // A variable near the place where the code runs, relative to RIP.
  template <class T>
  Xbyak::RegRip At(const T& variable) const {
    return rip + static_cast<const void*>(reinterpret_cast<const uint8_t*>(&variable) - to_run_);
  }
  // FXSAVE64 and FXRSTOR64, which xbyak has not, of a nearby area.
  void fxsave64(const uint8_t* area) { EmitFx(0, area); }
  void fxrstor64(const uint8_t* area) { EmitFx(1, area); }
  // What runs here.
  const uint8_t* here() const { return getCurr() + to_run_; }

 private:
  void EmitFx(int extension, const uint8_t* area) {
    for (int byte : {0x48, 0x0f, 0xae, extension << 3 | 5}) db(byte);
    dd(static_cast<uint32_t>(area - (here() + 4)));
  }

  ptrdiff_t to_run_;
};

}  // namespace bt
