#include "legacy-devices/ps2_mouse.h"

#include <algorithm>
#include <cstdlib>

#include "vmm/core/base/bit_register.h"

namespace legacy {

using namespace ps2;

namespace {

constexpr int32_t kMostMovement = 0x7FFF;  // a hand that the guest never asks after
constexpr uint8_t kButtonMask = 0x1F;
constexpr uint8_t kStandardButtons = 0x07;
constexpr uint8_t kExplorerButtons = 0x18;  // the fourth and fifth

bool TakesParameter(MouseCommand command) {
  return command == MouseCommand::SetResolution || command == MouseCommand::SetSamplingRate;
}

// Takes at most `most` of the movement in either direction.
int32_t Take(int32_t& movement, int32_t least, int32_t most) {
  const int32_t taken = std::clamp(movement, least, most);
  movement -= taken;
  return taken;
}

// [PS2] Mouse, Set scaling 2:1
int32_t Scale2To1(int32_t counts) {
  static constexpr int32_t kSmall[] = {0, 1, 1, 3, 6, 9};
  const int32_t size = std::abs(counts);
  const int32_t scaled = size < 6 ? kSmall[size] : 2 * size;
  return std::clamp(counts < 0 ? -scaled : scaled, -256, 255);
}

}  // namespace

// [PS2] Mouse, Commands from the system
void Ps2Mouse::Receive(uint8_t byte) {
  const MouseCommand waiting = state_.waiting;
  const auto command = static_cast<MouseCommand>(byte);
  state_.waiting = MouseCommand::None;
  state_.packet.Clear();  // a packet under way is given up
  if (state_.wrap && command != MouseCommand::ResetWrapMode && command != MouseCommand::Reset)
    return Answer(byte);
  // A command where a parameter is due takes its place.
  if (waiting != MouseCommand::None && byte < static_cast<uint8_t>(MouseCommand::SetScaling1To1))
    return ReceiveParameter(waiting, byte);

  switch (command) {
    case MouseCommand::SetResolution:
    case MouseCommand::SetSamplingRate:
      state_.waiting = command;
      return Answer(kAcknowledge);
    case MouseCommand::SetScaling1To1:
    case MouseCommand::SetScaling2To1:
      state_.scaling_2_to_1 = command == MouseCommand::SetScaling2To1;
      return Answer(kAcknowledge);
    case MouseCommand::StatusRequest:
      Answer(kAcknowledge);
      return AnswerStatus();
    case MouseCommand::SetStreamMode:
    case MouseCommand::SetRemoteMode:
      state_.remote = command == MouseCommand::SetRemoteMode;
      return Answer(kAcknowledge);
    case MouseCommand::SetWrapMode:
    case MouseCommand::ResetWrapMode:
      state_.wrap = command == MouseCommand::SetWrapMode;
      return Answer(kAcknowledge);
    case MouseCommand::ReadData: {
      Answer(kAcknowledge);
      const std::array<uint8_t, 4> packet = NextPacket();
      for (size_t i = 0; i < PacketSize(); ++i) Answer(packet[i]);
      return;
    }
    case MouseCommand::ReadId:
      Answer(kAcknowledge);
      return Answer(static_cast<uint8_t>(state_.id));
    case MouseCommand::Enable:
    case MouseCommand::Disable:
      state_.enabled = command == MouseCommand::Enable;
      return Answer(kAcknowledge);
    case MouseCommand::SetDefault:
      SetDefaults();
      return Answer(kAcknowledge);
    case MouseCommand::Resend:
      return Answer(state_.last_sent);
    case MouseCommand::Reset:
      SetDefaults();
      state_.id = MouseId::Standard;
      state_.last_rates = {};
      state_.wrap = false;
      state_.answers.Clear();
      Answer(kAcknowledge);
      Answer(kSelfTestPassed);
      return Answer(static_cast<uint8_t>(state_.id));
    default:
      return Answer(kResend);
  }
}

void Ps2Mouse::ReceiveParameter(MouseCommand command, uint8_t value) {
  if (command == MouseCommand::SetResolution) {
    state_.resolution = value & 3;
  } else {
    state_.sampling_rate = value;
    std::rotate(state_.last_rates.begin(), state_.last_rates.begin() + 1, state_.last_rates.end());
    state_.last_rates.back() = value;
    if (state_.last_rates == std::array<uint8_t, 3>{200, 100, 80})
      state_.id = MouseId::IntelliMouse;
    if (state_.last_rates == std::array<uint8_t, 3>{200, 200, 80}) state_.id = MouseId::Explorer;
  }
  Answer(kAcknowledge);
}

void Ps2Mouse::AnswerStatus() {
  vmm::BitRegister<MouseStatus> status;
  status.Assign(MouseStatus::Left, (state_.buttons & 1) != 0);
  status.Assign(MouseStatus::Right, (state_.buttons & 2) != 0);
  status.Assign(MouseStatus::Middle, (state_.buttons & 4) != 0);
  status.Assign(MouseStatus::Scaling2To1, state_.scaling_2_to_1);
  status.Assign(MouseStatus::Enabled, state_.enabled);
  status.Assign(MouseStatus::RemoteMode, state_.remote);
  Answer(status.raw());
  Answer(state_.resolution);
  Answer(state_.sampling_rate);
}

void Ps2Mouse::SetDefaults() {
  state_.sampling_rate = kDefaultSamplingRate;
  state_.resolution = kDefaultResolution;
  state_.scaling_2_to_1 = false;
  state_.enabled = false;
  state_.remote = false;
  state_.dx = state_.dy = state_.dz = 0;
}

void Ps2Mouse::Inject(const Ps2MouseEvent& event) {
  const auto add = [](int32_t& sum, int movement) {
    sum = std::clamp(sum + std::clamp(movement, -kMostMovement, kMostMovement), -kMostMovement,
                     kMostMovement);
  };
  if (state_.enabled || state_.remote) {
    add(state_.dx, event.dx);
    add(state_.dy, event.dy);
    add(state_.dz, event.dz);
  }
  state_.buttons = event.buttons & kButtonMask;
}

bool Ps2Mouse::HasNews() const {
  const bool wheel = state_.id != MouseId::Standard && state_.dz != 0;
  return state_.dx != 0 || state_.dy != 0 || wheel || state_.buttons != state_.reported_buttons;
}

// One report of all that happened, or as much of it as fits; the rest goes into the next.
// [PS2] Mouse, Data report; [IMOUSE]
std::array<uint8_t, 4> Ps2Mouse::NextPacket() {
  int32_t x = Take(state_.dx, -256, 255);
  int32_t y = Take(state_.dy, -256, 255);
  const int32_t z = Take(state_.dz, -8, 7);
  if (state_.scaling_2_to_1 && Streams()) {
    x = Scale2To1(x);
    y = Scale2To1(y);
  }
  vmm::BitRegister<MousePacket> first(state_.buttons & kStandardButtons);
  first.Set(MousePacket::Always1);
  first.Assign(MousePacket::XNegative, x < 0);
  first.Assign(MousePacket::YNegative, y < 0);
  state_.reported_buttons = state_.buttons;

  const auto wheel = static_cast<uint8_t>(z);
  const uint8_t fourth = state_.id == MouseId::Explorer
                             ? (wheel & 0x0F) | ((state_.buttons & kExplorerButtons) << 1)
                             : wheel;
  return {first.raw(), static_cast<uint8_t>(x), static_cast<uint8_t>(y), fourth};
}

bool Ps2Mouse::HasOutput() const {
  return !state_.answers.empty() || !state_.packet.empty() || (Streams() && HasNews());
}

uint8_t Ps2Mouse::TakeOutput() {
  if (state_.answers.empty() && state_.packet.empty()) {
    const std::array<uint8_t, 4> packet = NextPacket();
    for (size_t i = 0; i < PacketSize(); ++i) state_.packet.Push(packet[i]);
  }
  state_.last_sent = state_.answers.empty() ? state_.packet.Pop() : state_.answers.Pop();
  return state_.last_sent;
}

bool Ps2Mouse::Possible(const Ps2MouseState& s) {
  const auto in_range = [](int32_t movement) {
    return movement >= -kMostMovement && movement <= kMostMovement;
  };
  return (s.waiting == MouseCommand::None || TakesParameter(s.waiting)) &&
         (s.id == MouseId::Standard || s.id == MouseId::IntelliMouse ||
          s.id == MouseId::Explorer) &&
         s.resolution <= 3 && in_range(s.dx) && in_range(s.dy) && in_range(s.dz) &&
         (s.buttons & ~kButtonMask) == 0 && (s.reported_buttons & ~kButtonMask) == 0 &&
         s.answers.Valid() && s.packet.Valid();
}

}  // namespace legacy
