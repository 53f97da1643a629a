// What a PS/2 keyboard and a PS/2 mouse are told, and what they answer. [PS2] Keyboard, Mouse
#pragma once

#include <cstdint>

namespace legacy::ps2 {

inline constexpr uint8_t kAcknowledge = 0xFA;
inline constexpr uint8_t kResend = 0xFE;
inline constexpr uint8_t kSelfTestPassed = 0xAA;

enum class KeyboardCommand : uint8_t {
  None = 0x00,  // of ours: no command waits for its parameter
  SetLeds = 0xED,
  Echo = 0xEE,
  SelectScanSet = 0xF0,
  ReadId = 0xF2,
  SetTypematic = 0xF3,
  Enable = 0xF4,
  DefaultDisable = 0xF5,
  SetDefault = 0xF6,
  Resend = 0xFE,
  Reset = 0xFF,
};
inline constexpr uint8_t kKeyboardId[] = {0xAB, 0x83};
inline constexpr uint8_t kLedMask = 0x07;
inline constexpr uint8_t kTypematicMask = 0x7F;
inline constexpr uint8_t kDefaultTypematic = 0x2B;  // 10.9 characters/s after 500 ms
inline constexpr uint8_t kScanSet2Break = 0xF0;     // prefix of a released key

enum class MouseCommand : uint8_t {
  None = 0x00,  // of ours: no command waits for its parameter
  SetScaling1To1 = 0xE6,
  SetScaling2To1 = 0xE7,
  SetResolution = 0xE8,
  StatusRequest = 0xE9,
  SetStreamMode = 0xEA,
  ReadData = 0xEB,
  ResetWrapMode = 0xEC,
  SetWrapMode = 0xEE,
  SetRemoteMode = 0xF0,
  ReadId = 0xF2,
  SetSamplingRate = 0xF3,
  Enable = 0xF4,
  Disable = 0xF5,
  SetDefault = 0xF6,
  Resend = 0xFE,
  Reset = 0xFF,
};

// A mouse changes its identity, and with it the length of its packets, when it is given a certain
// series of sampling rates. [IMOUSE]
enum class MouseId : uint8_t {
  Standard = 0x00,      // 3 bytes
  IntelliMouse = 0x03,  // 4 bytes, a wheel: rates 200, 100, 80
  Explorer = 0x04,      // 4 bytes, a wheel and 5 buttons: rates 200, 200, 80
};

// First byte of a packet; the buttons stand likewise in the first status byte.
enum class MousePacket : uint8_t {
  Left = 0x01,
  Right = 0x02,
  Middle = 0x04,
  Always1 = 0x08,
  XNegative = 0x10,
  YNegative = 0x20,
  XOverflow = 0x40,
  YOverflow = 0x80,
};

// First byte of the answer to StatusRequest (its buttons: left 0x04, middle 0x02, right 0x01).
enum class MouseStatus : uint8_t {
  Right = 0x01,
  Middle = 0x02,
  Left = 0x04,
  Scaling2To1 = 0x10,
  Enabled = 0x20,
  RemoteMode = 0x40,
};
inline constexpr uint8_t kDefaultResolution = 2;  // 4 counts/mm
inline constexpr uint8_t kDefaultSamplingRate = 100;

}  // namespace legacy::ps2
