#include "legacy-devices/ps2_keyboard.h"

#include <array>

namespace legacy {

using namespace ps2;

namespace {

// [8042] Table 4: keyboard controller translation
constexpr std::array<uint8_t, 0x85> kScanSet1 = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29,
    0x59, 0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11,
    0x03, 0x5B, 0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14,
    0x13, 0x06, 0x5D, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5F, 0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0C, 0x61, 0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36,
    0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C,
    0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, 0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45,
    0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};

bool TakesParameter(KeyboardCommand command) {
  return command == KeyboardCommand::SetLeds || command == KeyboardCommand::SelectScanSet ||
         command == KeyboardCommand::SetTypematic;
}

}  // namespace

uint8_t ScanSet1Of(uint8_t set2) {
  return set2 < kScanSet1.size() ? kScanSet1[set2] : set2;
}

// [PS2] Keyboard, Commands from the system
void Ps2Keyboard::Receive(uint8_t byte) {
  const KeyboardCommand waiting = state_.waiting;
  state_.waiting = KeyboardCommand::None;
  // A command where a parameter is due takes its place; no parameter is that large.
  if (waiting != KeyboardCommand::None && byte < 0x80) return ReceiveParameter(waiting, byte);

  switch (static_cast<KeyboardCommand>(byte)) {
    case KeyboardCommand::SetLeds:
    case KeyboardCommand::SelectScanSet:
    case KeyboardCommand::SetTypematic:
      state_.waiting = static_cast<KeyboardCommand>(byte);
      return Answer(kAcknowledge);
    case KeyboardCommand::Echo:
      return Answer(byte);
    case KeyboardCommand::ReadId:
      Answer(kAcknowledge);
      for (uint8_t id : kKeyboardId) Answer(id);
      return;
    case KeyboardCommand::Enable:
      state_.keys.Clear();
      state_.scanning = true;
      return Answer(kAcknowledge);
    case KeyboardCommand::DefaultDisable:
      SetDefaults();
      state_.scanning = false;
      return Answer(kAcknowledge);
    case KeyboardCommand::SetDefault:
      SetDefaults();
      return Answer(kAcknowledge);
    case KeyboardCommand::Resend:
      return Answer(state_.last_sent);
    case KeyboardCommand::Reset:
      SetDefaults();
      state_.leds = 0;
      state_.scanning = true;
      state_.answers.Clear();
      Answer(kAcknowledge);
      return Answer(kSelfTestPassed);
    default:
      return Answer(kResend);
  }
}

void Ps2Keyboard::ReceiveParameter(KeyboardCommand command, uint8_t value) {
  switch (command) {
    case KeyboardCommand::SetLeds:
      state_.leds = value & kLedMask;
      break;
    case KeyboardCommand::SetTypematic:
      state_.typematic = value & kTypematicMask;
      break;
    case KeyboardCommand::SelectScanSet:
      if (value == 0) {
        Answer(kAcknowledge);
        return Answer(state_.scan_set);
      }
      if (value > 2) return Answer(kResend);  // set 3 isn't there
      state_.scan_set = value;
      state_.keys.Clear();
      break;
    default:
      break;
  }
  Answer(kAcknowledge);
}

void Ps2Keyboard::SetDefaults() {
  state_.keys.Clear();
  state_.scan_set = 2;
  state_.typematic = kDefaultTypematic;
}

uint8_t Ps2Keyboard::TakeOutput() {
  const uint8_t byte = state_.answers.empty() ? state_.keys.Pop() : state_.answers.Pop();
  if (byte != kResend) state_.last_sent = byte;
  return byte;
}

bool Ps2Keyboard::Inject(std::span<const uint8_t> codes) {
  if (!state_.scanning) return true;
  if (state_.keys.room() < codes.size()) return false;
  uint8_t released = 0;
  for (uint8_t code : codes) {
    if (state_.scan_set == 2) {
      state_.keys.Push(code);
    } else if (code == kScanSet2Break) {
      released = 0x80;
    } else {
      state_.keys.Push(static_cast<uint8_t>(ScanSet1Of(code) | released));
      released = 0;
    }
  }
  return true;
}

bool Ps2Keyboard::Possible(const Ps2KeyboardState& s) {
  return (s.waiting == KeyboardCommand::None || TakesParameter(s.waiting)) && s.scan_set >= 1 &&
         s.scan_set <= 2 && (s.leds & ~kLedMask) == 0 && (s.typematic & ~kTypematicMask) == 0 &&
         s.answers.Valid() && s.keys.Valid();
}

}  // namespace legacy
