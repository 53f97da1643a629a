#include "neighbours.h"

namespace difftest {
namespace {

uint8_t Rex(unsigned reg, unsigned rm) {
  return static_cast<uint8_t>(0x48 | (reg >> 3) << 2 | rm >> 3);
}

uint8_t Registers(unsigned reg, unsigned rm) {
  return static_cast<uint8_t>(0xc0 | (reg & 7) << 3 | (rm & 7));
}

void AddOne(Random& random, std::vector<uint8_t>& code) {
  const auto add = [&code](std::initializer_list<unsigned> bytes) {
    for (unsigned byte : bytes) code.push_back(static_cast<uint8_t>(byte));
  };
  const unsigned reg = random() % 16;
  const uint8_t rex = Rex(reg, reg), same = Registers(reg, reg);
  switch (random() % 10) {
    case 0:
      return add({rex, 0x89, same});  // MOV reg, reg
    case 1:
      return add({rex, 0x87, same});  // XCHG reg, reg
    case 2:                           // LEA reg, [reg+0]
      add({rex, 0x8d, same & 0x7fu});
      if ((reg & 7) == 4) add({0x24});
      return add({0});
    case 3:  // NOT reg, twice
      for (int i = 0; i < 2; ++i) add({Rex(0, reg), 0xf7, Registers(2, reg)});
      return;
    case 4:  // BSWAP reg, twice
      for (int i = 0; i < 2; ++i) add({Rex(0, reg), 0x0f, 0xc8 | (reg & 7)});
      return;
    case 5:
      return add(
          {rex, 0x0f, 0x40 | static_cast<unsigned>(random() % 16), same});  // CMOVcc reg, reg
    case 6:
      return add({0xf5, 0xf5});  // CMC, twice
    case 7:
      return add({0x88, Registers(reg & 7, reg & 7)});  // MOV of AL to BH onto itself
    case 8:                                             // MOVAPS XMM, XMM of the same number
      return add({0x40 | (rex & 7u), 0x0f, 0x28, same});
    default:
      return add({0x90});  // NOP
  }
}

}  // namespace

std::vector<uint8_t> Neighbours(Random& random) {
  std::vector<uint8_t> code;
  for (uint64_t left = random() % 5; left > 0; --left) AddOne(random, code);
  return code;
}

}  // namespace difftest
