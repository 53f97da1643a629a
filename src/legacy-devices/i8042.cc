#include "legacy-devices/i8042.h"

#include <algorithm>
#include <utility>

namespace legacy {

using namespace i8042;

namespace {

constexpr uint8_t Raw(Command command) {
  return static_cast<uint8_t>(command);
}
constexpr uint8_t kRamMask = 0x1F;

bool IsWriteRam(uint8_t command) {
  return (command & ~kRamMask) == Raw(Command::WriteRam);
}

bool TakesParameter(uint8_t command) {
  return IsWriteRam(command) ||
         (command >= Raw(Command::WriteOutputPort) && command <= Raw(Command::WriteAux));
}

}  // namespace

I8042::I8042(vmm::IrqLine& keyboard_irq, vmm::IrqLine& aux_irq,
             std::function<void(std::string_view)> reset, A20Gate& a20)
    : data_port_("i8042-data", *this, &I8042::ReadData, &I8042::WriteData),
      command_port_("i8042-command", *this, &I8042::ReadStatus, &I8042::WriteCommand),
      keyboard_irq_(keyboard_irq),
      aux_irq_(aux_irq),
      reset_(std::move(reset)),
      a20_(a20) {}

void I8042::ReadData(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset == 0 && !data.empty()) data[0] = TakeOutput();
}

void I8042::WriteData(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  bool reset = false;
  {
    std::lock_guard lock(mutex_);
    state_.last_was_command = false;
    if (const uint8_t command = std::exchange(state_.waiting, uint8_t{0})) {
      reset = ExecuteWithParameter(command, data[0]);
    } else {
      state_.CTR.Clear(Ctr::KBDDIS);  // to send, the controller lets go of the clock
      keyboard_.Receive(data[0]);
    }
    FillOutput();
  }
  if (reset) reset_("keyboard controller");
}

void I8042::ReadStatus(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset == 0 && !data.empty()) data[0] = StatusRegister();
}

void I8042::WriteCommand(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  bool reset = false;
  {
    std::lock_guard lock(mutex_);
    state_.last_was_command = true;
    state_.waiting = 0;
    reset = Execute(data[0]);
    FillOutput();
  }
  if (reset) reset_("keyboard controller");
}

uint8_t I8042::TakeOutput() {
  const uint8_t byte = state_.output.data;
  if (!state_.output_full) return byte;
  state_.output_full = false;
  UpdateIrqs();  // down, even if the next byte is there already
  FillOutput();
  return byte;
}

// [PS2] Keyboard and auxiliary device controller, Commands. True if the guest asks for a reset.
bool I8042::Execute(uint8_t command) {
  if (TakesParameter(command)) {
    state_.waiting = command;
    return false;
  }
  if ((command & ~kRamMask) == Raw(Command::ReadRam)) {
    const size_t index = command & kRamMask;
    Reply(index == 0 ? state_.CTR.raw() : state_.ram[index - 1]);
    return false;
  }
  if (command >= Raw(Command::PulseOutput)) return (command & static_cast<uint8_t>(P2::RESET)) == 0;

  switch (static_cast<Command>(command)) {
    case Command::TestPassword:
      Reply(kNoPassword);
      break;
    case Command::DisableAux:
      state_.CTR.Set(Ctr::AUXDIS);
      break;
    case Command::EnableAux:
      state_.CTR.Clear(Ctr::AUXDIS);
      break;
    case Command::TestAux:
    case Command::TestKeyboard:
      Reply(kPortTestPassed);
      break;
    case Command::SelfTest:
      state_.CTR.Set(Ctr::SYS);
      Reply(kSelfTestPassed);
      break;
    case Command::DisableKeyboard:
      state_.CTR.Set(Ctr::KBDDIS);
      break;
    case Command::EnableKeyboard:
      state_.CTR.Clear(Ctr::KBDDIS);
      break;
    case Command::ReadInputPort:
      Reply(kInputPort);
      break;
    case Command::ReadOutputPort:
      Reply(OutputPort());
      break;
    case Command::DisableA20:
    case Command::EnableA20:
      a20_.Set(command == Raw(Command::EnableA20));
      break;
    default:  // no controller knows them all
      break;
  }
  return false;
}

bool I8042::ExecuteWithParameter(uint8_t command, uint8_t value) {
  if (IsWriteRam(command)) {
    const size_t index = command & kRamMask;
    if (index == 0)
      state_.CTR = vmm::BitRegister<Ctr>(value & kCtrMask);
    else
      state_.ram[index - 1] = value;
    return false;
  }
  switch (static_cast<Command>(command)) {
    case Command::WriteOutputPort: {
      const vmm::BitRegister<P2> port(value);
      a20_.Set(port.Has(P2::A20));
      return !port.Has(P2::RESET);
    }
    case Command::WriteKeyboardBuffer:
      Reply(value);
      break;
    case Command::WriteAuxBuffer:
      Reply(value, /*aux=*/true);
      break;
    case Command::WriteAux:
      state_.CTR.Clear(Ctr::AUXDIS);
      mouse_.Receive(value);
      break;
    default:
      break;
  }
  return false;
}

// A reply that nobody fetched gives way to the next.
void I8042::Reply(uint8_t data, bool aux) {
  if (state_.replies.full()) state_.replies.Pop();
  state_.replies.Push({data, aux});
}

uint8_t I8042::StatusRegister() const {
  vmm::BitRegister<Status> status;
  status.Set(Status::KEYLOCK);
  status.Assign(Status::OBF, state_.output_full);
  status.Assign(Status::AUXDATA, state_.output_full && state_.output.aux);
  status.Assign(Status::SYS, state_.CTR.Has(Ctr::SYS));
  status.Assign(Status::A2, state_.last_was_command);
  return status.raw();
}

uint8_t I8042::OutputPort() const {
  vmm::BitRegister<P2> port(0xC0);  // keyboard clock and data lines, idle
  port.Set(P2::RESET);
  port.Assign(P2::A20, a20_.open());
  port.Assign(P2::KBD_OBF, state_.output_full && !state_.output.aux);
  port.Assign(P2::AUX_OBF, state_.output_full && state_.output.aux);
  return port.raw();
}

// Translates on the way: 0xF0 is kept back and becomes the top bit of what follows. False if there
// is nothing to pass on.
bool I8042::FillFromKeyboard() {
  while (keyboard_.HasOutput()) {
    uint8_t byte = keyboard_.TakeOutput();
    if (state_.CTR.Has(Ctr::XLATE)) {
      if (byte == ps2::kScanSet2Break) {
        state_.translate_break = true;
        continue;
      }
      byte = static_cast<uint8_t>(ScanSet1Of(byte) |
                                  (std::exchange(state_.translate_break, false) ? 0x80 : 0));
    }
    state_.output = {byte, false};
    return true;
  }
  return false;
}

// Ends every access: the next byte for the guest moves up if the buffer is free.
void I8042::FillOutput() {
  if (!state_.output_full) {
    if (!state_.replies.empty()) {
      state_.output = state_.replies.Pop();
      state_.output_full = true;
    } else if (!state_.CTR.Has(Ctr::KBDDIS) && FillFromKeyboard()) {
      state_.output_full = true;
    } else if (!state_.CTR.Has(Ctr::AUXDIS) && mouse_.HasOutput()) {
      state_.output = {mouse_.TakeOutput(), true};
      state_.output_full = true;
    }
  }
  UpdateIrqs();
}

void I8042::UpdateIrqs() {
  const bool aux = state_.output_full && state_.output.aux;
  const bool keyboard = state_.output_full && !state_.output.aux;
  keyboard_irq_.Set(keyboard && state_.CTR.Has(Ctr::KBDINT));
  aux_irq_.Set(aux && state_.CTR.Has(Ctr::AUXINT));
}

bool I8042::InjectKey(std::span<const uint8_t> codes) {
  std::lock_guard lock(mutex_);
  const bool taken = keyboard_.Inject(codes);
  FillOutput();
  return taken;
}

void I8042::InjectMouse(const Ps2MouseEvent& event) {
  std::lock_guard lock(mutex_);
  mouse_.Inject(event);
  FillOutput();
}

void I8042::Reset() {
  std::lock_guard lock(mutex_);
  state_ = {};
  UpdateIrqs();
}

I8042State I8042::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> I8042::Load(const I8042State& state) {
  if (state.version != I8042State::kVersion || !state.CTR.IsWithin(kCtrMask) ||
      (state.waiting != 0 && !TakesParameter(state.waiting)) || !state.replies.Valid() ||
      !Ps2Keyboard::Possible(state.keyboard) || !Ps2Mouse::Possible(state.mouse))
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "i8042: the saved state is not one of a keyboard controller");
  std::lock_guard lock(mutex_);
  state_ = state;
  FillOutput();
  return {};
}

}  // namespace legacy
