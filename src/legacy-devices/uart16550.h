// A 16550A serial port as a PC wires it. It is the model for every device of this folder: see
// README.md, "How to add a device".
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "legacy-devices/uart16550_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/fixed_queue.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/time/clock.h"

namespace legacy {

// One received byte with the errors that arrived with it.
struct UartReceived {
  uint8_t data = 0;
  uint8_t errors = 0;      // of uart16550::LSR: PE, FE, BI
  bool from_line = false;  // from the host, not from the loopback
  friend bool operator==(const UartReceived&, const UartReceived&) = default;
};

// All that a guest can see of a port, and what it can't see yet.
struct Uart16550State {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<uart16550::IER> IER;
  vmm::BitRegister<uart16550::FCR> FCR;  // write-only to the guest
  vmm::BitRegister<uart16550::LCR> LCR;
  vmm::BitRegister<uart16550::MCR> MCR;
  vmm::BitRegister<uart16550::LSR> LSR;  // OE, PE, FE and BI; the rest follows from the FIFO
  vmm::BitRegister<uart16550::MSR> MSR;
  uint8_t SCR = 0;
  uint16_t divisor = 12;  // DLM:DLL; 9600 baud
  uint8_t last_data = 0;  // what RBR gives when nothing was received
  vmm::FixedQueue<UartReceived, uart16550::kFifoDepth> receiver;
  // Bytes that the guest cleared out of the receiver: they count as still on the line.
  vmm::FixedQueue<uint8_t, uart16550::kFifoDepth> line;
  bool thr_empty_pending = false;  // the THRE interrupt, until IIR is read or THR written
  bool timeout_pending = false;    // the character time-out interrupt, until RBR is read
  bool held_by_rts = false;        // the guest dropped RTS while it received: it has no room
  uint8_t idle_polls = 0;          // how often LSR was read in wait of a byte
  friend bool operator==(const Uart16550State&, const Uart16550State&) = default;
};

// The chip: [16550]; the wiring, OUT2 in the way of the interrupt: [PC-AT] serial adapter.
//
// Time: output leaves at once, whatever the divisor says, so the transmitter is always empty. The
// divisor counts only for the character time-out of the receiver FIFO.
//
// Input that comes early is held back, never dropped. The host's bytes are taken while the guest
// shows that it receives: the receiver interrupt is enabled, or LSR is read again and again with
// nothing sent in between. A FIFO reset puts them back on the line, for drivers clear the FIFOs
// whenever they open or reconfigure a port, and what was typed before that must not be lost.
//
// Threads: everything from any thread; OnInput on the I/O thread.
class Uart16550 final : public vmm::Device, public vmm::CharReceiver {
 public:
  // `name` as in "serial0". The references outlive the device.
  Uart16550(std::string name, vmm::IrqLine& irq, vmm::CharBackend& backend, const vmm::Clock& clock,
            vmm::TimerService& timers);
  ~Uart16550() override;

  std::string_view name() const override { return name_; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  size_t OnInput(std::span<const uint8_t> data) override;

  // The host's end sends a break (Linux: the SysRq prefix). Lost if the guest doesn't receive.
  void ReceiveBreak();

  // The MR pin. [16550] Table I
  void Reset();

  Uart16550State Save() const;
  // Refuses, and changes nothing, what no 16550A could be in.
  vmm::Result<void> Load(const Uart16550State& state);

 private:
  // What an access leaves to do once the lock is dropped: a backend may call back.
  struct HostWork {
    std::optional<uint8_t> output;
    bool resume_input = false;
  };

  uint8_t ReadRegister(uint64_t offset);
  void WriteRegister(uint64_t offset, uint8_t value, HostWork& work);
  uint8_t ReadRBR();
  uint8_t ReadIIR();
  uint8_t ReadLSR();
  uint8_t ReadMSR();
  void WriteTHR(uint8_t value, HostWork& work);
  void WriteIER(uint8_t value);
  void WriteFCR(uint8_t value);
  void WriteLCR(uint8_t value);
  void WriteMCR(uint8_t value);

  bool FifoMode() const { return state_.FCR.Has(uart16550::FCR::FifoEnable); }
  bool Loopback() const { return state_.MCR.Has(uart16550::MCR::LOOP); }
  bool TakesInput() const;
  size_t ReceiverRoom() const;
  size_t TriggerLevel() const;
  vmm::Nanoseconds TimeoutDelay() const;
  uart16550::IIR PendingInterrupt() const;

  void Receive(UartReceived received);
  void ShowOldestErrors();
  void ClearReceiver();
  void TakeFromLine();
  void UpdateModemStatus();
  bool IrqLevel() const;
  void UpdateIrq();
  void ArmTimeout();
  void Settle(HostWork& work);
  void Perform(const HostWork& work);
  void OnTimeoutTimer();

  const std::string name_;
  vmm::IrqLine& irq_;
  vmm::CharBackend& backend_;
  const vmm::Clock& clock_;

  mutable std::mutex mutex_;  // guards all below
  Uart16550State state_;
  bool irq_level_ = false;
  bool input_refused_ = false;  // the backend holds bytes back until ResumeInput()
  bool timer_armed_ = false;
  vmm::Nanoseconds last_activity_{};           // when the receiver FIFO was last filled or read
  std::unique_ptr<vmm::Timer> timeout_timer_;  // last: its destructor waits for the callback
};

}  // namespace legacy
