// xbyak, for code that is written in one place and runs in another.
#pragma once

#include <xbyak/xbyak.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>

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
  // The displacement of such an operand at the end of an instruction of `length` bytes.
  template <class T>
  int32_t DisplacementTo(const T& variable, unsigned length) const {
    return static_cast<int32_t>(reinterpret_cast<const uint8_t*>(&variable) - (here() + length));
  }
  // FXSAVE64 and FXRSTOR64, which xbyak has not, of a nearby area.
  void fxsave64(const uint8_t* area) { EmitFx(0, area); }
  void fxrstor64(const uint8_t* area) { EmitFx(1, area); }
  // What runs here.
  const uint8_t* here() const { return getCurr() + to_run_; }
  void Put(const uint8_t* bytes, size_t count) {
    uint8_t* to = getCurr<uint8_t*>();
    setSize(getSize() + count);
    std::copy_n(bytes, count, to);
  }

 private:
  void EmitFx(int extension, const uint8_t* area) {
    for (int byte : {0x48, 0x0f, 0xae, extension << 3 | 5}) db(byte);
    dd(static_cast<uint32_t>(area - (here() + 4)));
  }

  ptrdiff_t to_run_;
};

// Instructions in bytes: what is emitted for every other instruction of the guest's, so that
// assembling it each time would show.
class Sequence {
 public:
  explicit Sequence(Assembler& code) : code_(code) {}

  Sequence& Bytes(std::initializer_list<uint8_t> bytes) {
    for (uint8_t byte : bytes) bytes_[size_++] = byte;
    return *this;
  }
  Sequence& Word(uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) bytes_[size_++] = static_cast<uint8_t>(value >> i * 8);
    return *this;
  }
  // A variable near the code, as Assembler::At(), at the end of an instruction.
  template <class T>
  Sequence& Near(const T& variable) {
    const uint8_t* end = code_.here() + size_ + 4;
    return Word(static_cast<uint32_t>(reinterpret_cast<const uint8_t*>(&variable) - end));
  }
  void Emit() { code_.Put(bytes_.data(), size_); }

 private:
  Assembler& code_;
  std::array<uint8_t, 64> bytes_;
  unsigned size_ = 0;
};

}  // namespace bt
