#include "legacy-devices/uart16550.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace legacy {

using namespace uart16550;  // the register names, as the data sheet has them
using vmm::Nanoseconds;

namespace {

// A driver that sends or sets up reads LSR twice in a row at most; one that waits for a byte reads
// it for ever.
constexpr uint8_t kPollsOfAReader = 4;

// The time-out of a slow line is for bytes that are still to come bit by bit; here they never are.
constexpr Nanoseconds kLongestTimeout = std::chrono::milliseconds(5);

// The other end of the cable is always there, ready and listening.
constexpr uint8_t kPeerPresent = vmm::BitRegister<MSR>::Mask(MSR::CTS, MSR::DSR, MSR::DCD);

// The modem inputs, as the MSR shows them. In loopback the four outputs are wired to the four
// inputs. [16550] 8.7
uint8_t ModemInputs(vmm::BitRegister<MCR> mcr) {
  if (!mcr.Has(MCR::LOOP)) return kPeerPresent;
  vmm::BitRegister<MSR> inputs;
  inputs.Assign(MSR::CTS, mcr.Has(MCR::RTS));
  inputs.Assign(MSR::DSR, mcr.Has(MCR::DTR));
  inputs.Assign(MSR::RI, mcr.Has(MCR::OUT1));
  inputs.Assign(MSR::DCD, mcr.Has(MCR::OUT2));
  return inputs.raw();
}

uint8_t WordMask(vmm::BitRegister<LCR> lcr) {
  return static_cast<uint8_t>((1u << (5 + lcr.Field(kLcrWordLength))) - 1);
}

bool Possible(const Uart16550State& s) {
  if (s.version != Uart16550State::kVersion) return false;
  if (!s.IER.IsWithin(kIerMask) || !s.FCR.IsWithin(kFcrStored) || !s.MCR.IsWithin(kMcrMask) ||
      !s.LSR.IsWithin(kLsrErrors) || s.MSR.Field(kMsrInputs) != ModemInputs(s.MCR))
    return false;
  if (!s.receiver.Valid() || !s.line.Valid()) return false;
  const bool fifo_mode = s.FCR.Has(FCR::FifoEnable);
  if (!fifo_mode && (s.receiver.size() > 1 || s.timeout_pending)) return false;
  if (s.timeout_pending && s.receiver.empty()) return false;
  size_t held = s.line.size();
  for (size_t i = 0; i < s.receiver.size(); ++i) {
    if ((s.receiver[i].errors & ~kLsrByteErrors) != 0) return false;
    held += s.receiver[i].from_line ? 1 : 0;
  }
  return held <= kFifoDepth && s.idle_polls <= kPollsOfAReader;
}

}  // namespace

Uart16550::Uart16550(std::string name, vmm::IrqLine& irq, vmm::CharBackend& backend,
                     const vmm::Clock& clock, vmm::TimerService& timers)
    : name_(std::move(name)), irq_(irq), backend_(backend), clock_(clock) {
  state_.MSR = vmm::BitRegister<MSR>(kPeerPresent);
  timeout_timer_ = timers.NewTimer([this] { OnTimeoutTimer(); });
  backend_.SetReceiver(this);
}

Uart16550::~Uart16550() {
  backend_.SetReceiver(nullptr);
}

void Uart16550::Read(uint64_t offset, std::span<uint8_t> data) {
  HostWork work;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) data[i] = ReadRegister(offset + i);
    Settle(work);
  }
  Perform(work);
}

void Uart16550::Write(uint64_t offset, std::span<const uint8_t> data) {
  HostWork work;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) WriteRegister(offset + i, data[i], work);
    Settle(work);
  }
  Perform(work);
}

uint8_t Uart16550::ReadRegister(uint64_t offset) {
  if (offset >= kRegisterCount) return 0xFF;
  const bool dlab = state_.LCR.Has(LCR::DLAB);
  switch (static_cast<Reg>(offset)) {
    case Reg::RBR:
      return dlab ? static_cast<uint8_t>(state_.divisor) : ReadRBR();
    case Reg::IER:
      return dlab ? static_cast<uint8_t>(state_.divisor >> 8) : state_.IER.raw();
    case Reg::IIR:
      return ReadIIR();
    case Reg::LCR:
      return state_.LCR.raw();
    case Reg::MCR:
      return state_.MCR.raw();
    case Reg::LSR:
      return ReadLSR();
    case Reg::MSR:
      return ReadMSR();
    case Reg::SCR:
      return state_.SCR;
  }
  return 0xFF;
}

void Uart16550::WriteRegister(uint64_t offset, uint8_t value, HostWork& work) {
  if (offset >= kRegisterCount) return;
  const bool dlab = state_.LCR.Has(LCR::DLAB);
  switch (static_cast<Reg>(offset)) {
    case Reg::THR:
      if (dlab)
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xFF00) | value);
      else
        WriteTHR(value, work);
      break;
    case Reg::IER:
      if (dlab)
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00FF) | value << 8);
      else
        WriteIER(value);
      break;
    case Reg::FCR:
      WriteFCR(value);
      break;
    case Reg::LCR:
      WriteLCR(value);
      break;
    case Reg::MCR:
      WriteMCR(value);
      break;
    case Reg::LSR:  // for factory tests only, [16550] 8.3
    case Reg::MSR:
      break;
    case Reg::SCR:
      state_.SCR = value;
      break;
  }
}

uint8_t Uart16550::ReadRBR() {
  if (state_.receiver.empty()) {
    state_.idle_polls = 0;  // clears what may be there: it doesn't wait for a byte
    return state_.last_data;
  }
  state_.last_data = state_.receiver.Pop().data;
  state_.timeout_pending = false;
  state_.idle_polls = kPollsOfAReader;
  ShowOldestErrors();
  if (FifoMode()) last_activity_ = clock_.Now();
  return state_.last_data;
}

// Reading IIR clears the THRE interrupt if that is what it shows. [16550] 8.5, Table IV
uint8_t Uart16550::ReadIIR() {
  const IIR pending = PendingInterrupt();
  if (pending == IIR::ThrEmpty) state_.thr_empty_pending = false;
  return static_cast<uint8_t>(static_cast<uint8_t>(pending) | (FifoMode() ? kIirFifosEnabled : 0));
}

// Reading LSR clears the errors it shows. [16550] 8.3
uint8_t Uart16550::ReadLSR() {
  vmm::BitRegister<LSR> value = state_.LSR;
  value.Set(LSR::THRE, LSR::TEMT);
  value.Assign(LSR::DR, !state_.receiver.empty());
  if (FifoMode()) {
    for (size_t i = 0; i < state_.receiver.size(); ++i)
      if (state_.receiver[i].errors != 0) value.Set(LSR::ErrorInRcvrFifo);
  }
  state_.LSR = {};
  if (!state_.receiver.empty()) {
    state_.receiver.front().errors = 0;
  } else if (state_.idle_polls < kPollsOfAReader) {
    ++state_.idle_polls;
  }
  return value.raw();
}

uint8_t Uart16550::ReadMSR() {
  const uint8_t value = state_.MSR.raw();
  state_.MSR = vmm::BitRegister<MSR>(state_.MSR.Field(kMsrInputs));
  return value;
}

void Uart16550::WriteTHR(uint8_t value, HostWork& work) {
  state_.idle_polls = 0;
  state_.thr_empty_pending = false;
  UpdateIrq();  // an edge-triggered controller must see the line fall before it rises again
  if (Loopback()) {
    Receive({.data = static_cast<uint8_t>(value & WordMask(state_.LCR))});
  } else if (!state_.LCR.Has(LCR::SetBreak)) {
    work.output = value;  // all eight bits: many a small guest never sets the word length
  }
  state_.thr_empty_pending = true;
}

// Enabling the THRE interrupt while the register is empty raises it at once; drivers start to send
// that way. [16550] 8.6, Table IV
void Uart16550::WriteIER(uint8_t value) {
  const bool could_send = state_.IER.Has(IER::ETBEI);
  state_.IER = vmm::BitRegister<IER>(value & kIerMask);
  if (!could_send && state_.IER.Has(IER::ETBEI)) state_.thr_empty_pending = true;
  state_.idle_polls = 0;
}

// The other bits are programmed only together with FifoEnable; a change of FifoEnable empties the
// FIFOs. [16550] 8.4
void Uart16550::WriteFCR(uint8_t value) {
  const vmm::BitRegister<FCR> written(value);
  const bool mode_change = written.Has(FCR::FifoEnable) != FifoMode();
  if (mode_change || (FifoMode() && written.Has(FCR::RcvrFifoReset))) ClearReceiver();
  state_.FCR = vmm::BitRegister<FCR>(written.Has(FCR::FifoEnable) ? written.Field(kFcrStored) : 0);
  state_.idle_polls = 0;
}

// In loopback the receiver sees the break that the transmitter sends. [16550] 8.1, 8.7
void Uart16550::WriteLCR(uint8_t value) {
  const vmm::BitRegister<LCR> written(value);
  const bool break_begins = written.Has(LCR::SetBreak) && !state_.LCR.Has(LCR::SetBreak);
  state_.LCR = written;
  state_.idle_polls = 0;
  if (break_begins && Loopback())
    Receive({.errors = vmm::BitRegister<LSR>::Mask(LSR::BI, LSR::FE)});
}

void Uart16550::WriteMCR(uint8_t value) {
  const vmm::BitRegister<MCR> old = state_.MCR;
  state_.MCR = vmm::BitRegister<MCR>(value & kMcrMask);
  if (state_.MCR.Has(MCR::RTS)) {
    state_.held_by_rts = false;
  } else if (old.Has(MCR::RTS) && state_.IER.Has(IER::ERBFI) && !Loopback()) {
    state_.held_by_rts = true;
  }
  UpdateModemStatus();
}

bool Uart16550::TakesInput() const {
  if (Loopback() || state_.held_by_rts) return false;
  return state_.IER.Has(IER::ERBFI) || state_.idle_polls >= kPollsOfAReader;
}

size_t Uart16550::ReceiverRoom() const {
  return FifoMode() ? state_.receiver.room() : (state_.receiver.empty() ? 1 : 0);
}

size_t Uart16550::TriggerLevel() const {
  static constexpr std::array<size_t, 4> kLevels = {1, 4, 8, 14};
  return FifoMode() ? kLevels[state_.FCR.Field(kFcrTrigger) >> 6] : 1;
}

// Four characters' time, start, parity and stop bits counted. [16550] 8.10
Nanoseconds Uart16550::TimeoutDelay() const {
  const int64_t bits = 1 + 5 + state_.LCR.Field(kLcrWordLength) +
                       (state_.LCR.Has(LCR::PEN) ? 1 : 0) + (state_.LCR.Has(LCR::STB) ? 2 : 1);
  const Nanoseconds delay(4 * bits * 16 * state_.divisor * 1'000'000'000LL / kClockHz);
  return std::min(delay, kLongestTimeout);
}

// [16550] Table IV, highest priority first
IIR Uart16550::PendingInterrupt() const {
  if (state_.IER.Has(IER::ELSI) && state_.LSR.raw() != 0) return IIR::ReceiverLineStatus;
  if (state_.IER.Has(IER::ERBFI)) {
    if (state_.receiver.size() >= TriggerLevel()) return IIR::ReceivedDataAvailable;
    if (state_.timeout_pending) return IIR::CharacterTimeout;
  }
  if (state_.IER.Has(IER::ETBEI) && state_.thr_empty_pending) return IIR::ThrEmpty;
  if (state_.IER.Has(IER::EDSSI) && state_.MSR.Field(kMsrDeltas) != 0) return IIR::ModemStatus;
  return IIR::NoInterrupt;
}

// A byte too many: the FIFO keeps what it has, the single register of 16450 mode takes the newest.
// [16550] 8.3 (OE)
void Uart16550::Receive(UartReceived received) {
  if (FifoMode()) last_activity_ = clock_.Now();
  if (ReceiverRoom() == 0) {
    state_.LSR.Set(LSR::OE);
    if (FifoMode()) return;
    ClearReceiver();
  }
  state_.receiver.Push(received);
  if (state_.receiver.size() == 1) ShowOldestErrors();
}

// Errors belong to a byte and show when it is the next to be read. [16550] 8.3
void Uart16550::ShowOldestErrors() {
  if (state_.receiver.empty()) return;
  state_.LSR = vmm::BitRegister<LSR>(
      static_cast<uint8_t>(state_.LSR.raw() | state_.receiver.front().errors));
}

void Uart16550::ClearReceiver() {
  vmm::FixedQueue<uint8_t, kFifoDepth> line;
  for (size_t i = 0; i < state_.receiver.size(); ++i)
    if (state_.receiver[i].from_line) line.Push(state_.receiver[i].data);
  for (size_t i = 0; i < state_.line.size(); ++i) line.Push(state_.line[i]);
  state_.line = line;
  state_.receiver.Clear();
  state_.timeout_pending = false;
}

void Uart16550::TakeFromLine() {
  while (TakesInput() && !state_.line.empty() && ReceiverRoom() != 0)
    Receive({.data = state_.line.Pop(), .from_line = true});
}

void Uart16550::UpdateModemStatus() {
  const vmm::BitRegister<MSR> inputs(ModemInputs(state_.MCR));
  const vmm::BitRegister<MSR> changed(
      static_cast<uint8_t>(inputs.raw() ^ state_.MSR.Field(kMsrInputs)));
  vmm::BitRegister<MSR> now(static_cast<uint8_t>(inputs.raw() | state_.MSR.Field(kMsrDeltas)));
  if (changed.Has(MSR::CTS)) now.Set(MSR::DCTS);
  if (changed.Has(MSR::DSR)) now.Set(MSR::DDSR);
  if (changed.Has(MSR::DCD)) now.Set(MSR::DDCD);
  if (changed.Has(MSR::RI) && !inputs.Has(MSR::RI)) now.Set(MSR::TERI);
  state_.MSR = now;
}

// The pin reaches the bus through OUT2, which loopback forces off. [16550] 8.7, [PC-AT]
bool Uart16550::IrqLevel() const {
  return PendingInterrupt() != IIR::NoInterrupt && state_.MCR.Has(MCR::OUT2) && !Loopback();
}

void Uart16550::UpdateIrq() {
  const bool level = IrqLevel();
  if (level == irq_level_) return;
  irq_level_ = level;
  irq_.Set(level);
}

// One timer for a whole burst: it is set for the first byte, and sets itself again if others have
// come or gone since.
void Uart16550::ArmTimeout() {
  if (timer_armed_ || state_.timeout_pending || !FifoMode() || state_.receiver.empty()) return;
  if (!state_.IER.Has(IER::ERBFI) || state_.receiver.size() >= TriggerLevel()) return;
  timer_armed_ = true;
  timeout_timer_->Arm(last_activity_ + TimeoutDelay());
}

// Brings everything that follows from the registers up to date; ends every access.
void Uart16550::Settle(HostWork& work) {
  TakeFromLine();
  if (input_refused_ && TakesInput() && state_.receiver.empty()) {
    input_refused_ = false;
    work.resume_input = true;
  }
  ArmTimeout();
  UpdateIrq();
}

void Uart16550::Perform(const HostWork& work) {
  if (work.output) backend_.Write({&*work.output, 1});
  if (work.resume_input) backend_.ResumeInput();
}

size_t Uart16550::OnInput(std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  size_t taken = 0;
  while (taken < data.size() && TakesInput() && state_.line.empty() && ReceiverRoom() != 0)
    Receive({.data = data[taken++], .from_line = true});
  input_refused_ = taken < data.size();
  ArmTimeout();
  UpdateIrq();
  return taken;
}

void Uart16550::ReceiveBreak() {
  std::lock_guard lock(mutex_);
  if (!TakesInput()) return;
  Receive({.errors = vmm::BitRegister<LSR>::Mask(LSR::BI, LSR::FE)});
  ArmTimeout();
  UpdateIrq();
}

void Uart16550::OnTimeoutTimer() {
  std::lock_guard lock(mutex_);
  timer_armed_ = false;
  if (FifoMode() && !state_.receiver.empty() && clock_.Now() >= last_activity_ + TimeoutDelay())
    state_.timeout_pending = true;
  ArmTimeout();
  UpdateIrq();
}

void Uart16550::Reset() {
  std::lock_guard lock(mutex_);
  ClearReceiver();
  const vmm::FixedQueue<uint8_t, kFifoDepth> line = state_.line;
  state_ = {};
  state_.line = line;
  state_.MSR = vmm::BitRegister<MSR>(kPeerPresent);
  input_refused_ = true;  // what the backend has is asked for when the guest receives again
  UpdateIrq();
}

Uart16550State Uart16550::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> Uart16550::Load(const Uart16550State& state) {
  if (!Possible(state))
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: the saved state is not one of a 16550A", name_));
  HostWork work;
  {
    std::lock_guard lock(mutex_);
    state_ = state;
    last_activity_ = clock_.Now();
    input_refused_ = true;
    irq_level_ = IrqLevel();
    irq_.Set(irq_level_);  // whatever it was before
    Settle(work);
  }
  Perform(work);
  return {};
}

}  // namespace legacy
