// IN OUT, and the permission check that INS and OUTS share. [SDM 1] 18.5
#include "bt/interp/families.h"
#include "bt/interp/interpreter.h"

namespace bt {

bool Cpu::IoAllowed(uint16_t port, unsigned size) {
  if (RealMode() || (!V86() && cpl_ <= Iopl())) return true;
  // The bitmap of a 32- or 64-bit TSS; two bytes are read, so that the last port has a neighbour.
  if (!(tr_.type() & 8) || tr_.unusable() || tr_.limit < 103) return Raise(kGP, 0);
  uint16_t map_base, bits;
  if (!LoadSystem(tr_.base + 102, map_base)) return false;
  if (map_base + port / 8u + 1 > tr_.limit) return Raise(kGP, 0);
  if (!LoadSystem(tr_.base + map_base + port / 8u, bits)) return false;
  if ((bits >> (port % 8)) & ((1u << size) - 1)) return Raise(kGP, 0);
  return true;
}

void Cpu::PortRead(uint16_t port, void* data, unsigned size) {
  vm_.parts().ports.Read(port, {static_cast<uint8_t*>(data), size});
  PostDebugTrap(debug_.IoHits(port, size));
}

void Cpu::PortWrite(uint16_t port, const void* data, unsigned size) {
  vm_.parts().ports.Write(port, {static_cast<const uint8_t*>(data), size});
  PostDebugTrap(debug_.IoHits(port, size));
}

namespace {

template <bool kImm>
uint16_t PortOf(Cpu& cpu, const Op& op) {
  return kImm ? static_cast<uint8_t>(op.imm) : cpu.Reg<uint16_t>(2 * 8);
}

template <class T, bool kImm>
bool In(Cpu& cpu, const Op& op) {
  const uint16_t port = PortOf<kImm>(cpu, op);
  T value = 0;
  if (!cpu.IoAllowed(port, sizeof(T))) return false;
  cpu.PortRead(port, &value, sizeof(T));
  cpu.SetReg<T>(0, value);
  return false;
}

template <class T, bool kImm>
bool Out(Cpu& cpu, const Op& op) {
  const uint16_t port = PortOf<kImm>(cpu, op);
  const T value = cpu.Reg<T>(0);
  if (!cpu.IoAllowed(port, sizeof(T))) return false;
  cpu.PortWrite(port, &value, sizeof(T));
  return false;
}

}  // namespace

bool SelectIo(const Insn& insn, Op& op) {
  const bool in = insn.mnemonic == Mnemonic::IN;
  const bool imm = !(insn.opcode & 8);  // E4-E7 name the port, EC-EF take it from DX
  const unsigned bits = (insn.opcode & 1) == 0 ? 8 : insn.operand_bits == 16 ? 16 : 32;
  return Use(op, BySize(bits, [in, imm](auto z) -> Handler {
               using T = decltype(z);
               if constexpr (sizeof(T) == 8)
                 return nullptr;
               else if (in)
                 return imm ? &In<T, true> : &In<T, false>;
               else
                 return imm ? &Out<T, true> : &Out<T, false>;
             }));
}

}  // namespace bt
