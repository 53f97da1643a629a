// Register map and commands of the PC's keyboard and mouse controller. [8042], [PS2] Keyboard and
// auxiliary device controller
#pragma once

#include <cstdint>

namespace legacy::i8042 {

inline constexpr uint16_t kDataPort = 0x60;
inline constexpr uint16_t kCommandPort = 0x64;  // read: status
inline constexpr unsigned kKeyboardIrq = 1;
inline constexpr unsigned kAuxIrq = 12;

enum class Status : uint8_t {
  OBF = 0x01,      // output buffer full: the data port has a byte
  IBF = 0x02,      // input buffer full; never, commands take no time
  SYS = 0x04,      // self test passed, copied from the command byte
  A2 = 0x08,       // the last write went to the command port
  KEYLOCK = 0x10,  // 1: not locked
  AUXDATA = 0x20,  // the byte in the output buffer is the mouse's
  TIMEOUT = 0x40,
  PARITY = 0x80,
};

// The command byte: byte 0 of the controller's RAM.
enum class Ctr : uint8_t {
  KBDINT = 0x01,
  AUXINT = 0x02,
  SYS = 0x04,
  IGNKEYLOCK = 0x08,
  KBDDIS = 0x10,  // the keyboard's clock is held
  AUXDIS = 0x20,
  XLATE = 0x40,  // scan set 2 to 1
};
inline constexpr uint8_t kCtrMask = 0x7F;

// Output port P2.
enum class P2 : uint8_t {
  RESET = 0x01,  // 0 resets the processor
  A20 = 0x02,
  KBD_OBF = 0x10,
  AUX_OBF = 0x20,
};

// Commands; ReadRam and WriteRam are ranges of 32, PulseOutput of 16.
enum class Command : uint8_t {
  None = 0x00,  // of ours: no command waits for its parameter
  ReadRam = 0x20,
  WriteRam = 0x60,
  TestPassword = 0xA4,
  DisableAux = 0xA7,
  EnableAux = 0xA8,
  TestAux = 0xA9,
  SelfTest = 0xAA,
  TestKeyboard = 0xAB,
  DisableKeyboard = 0xAD,
  EnableKeyboard = 0xAE,
  ReadInputPort = 0xC0,
  ReadOutputPort = 0xD0,
  WriteOutputPort = 0xD1,
  WriteKeyboardBuffer = 0xD2,
  WriteAuxBuffer = 0xD3,
  WriteAux = 0xD4,
  DisableA20 = 0xDD,
  EnableA20 = 0xDF,
  PulseOutput = 0xF0,  // a 0 in the low four bits pulls the line of P2 low for 6 µs
};

inline constexpr uint8_t kNoPassword = 0xF1;
inline constexpr uint8_t kSelfTestPassed = 0x55;
inline constexpr uint8_t kPortTestPassed = 0x00;
inline constexpr uint8_t kInputPort = 0xB0;  // not locked, no jumper, 512 KiB on the board

}  // namespace legacy::i8042
