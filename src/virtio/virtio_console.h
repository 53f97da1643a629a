// The console device: consoles, and byte streams with names. [VIRTIO 1.2] 5.3
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "virtio/virtio_console_regs.h"
#include "virtio/virtio_device.h"
#include "vmm/core/host/char_backend.h"

namespace virtio {

struct VirtioConsolePortState {
  static constexpr size_t kMaxName = 63;     // bytes
  std::array<uint8_t, kMaxName + 1> name{};  // zeros behind it
  bool is_console = false;
  uint8_t to_tell = 0;  // bits of VirtioConsole::Tell
  bool is_ready = false, guest_open = false, told_open = false;
  uint16_t told_columns = 0, told_rows = 0;
  uint64_t sent = 0;  // bytes of the chain that comes next; the host has them
  friend bool operator==(const VirtioConsolePortState&, const VirtioConsolePortState&) = default;
};

struct VirtioConsoleState {
  static constexpr uint32_t kVersion = 1;
  static constexpr unsigned kMaxPorts = (VirtioDeviceState::kMaxQueues - 2) / 2;
  uint32_t version = kVersion;
  uint32_t ports = 0;
  std::array<VirtioConsolePortState, kMaxPorts> port{};
  friend bool operator==(const VirtioConsoleState&, const VirtioConsoleState&) = default;
};

// Each port leads to a CharBackend. Nothing is kept here: what the host side does not take stays in
// the guest's buffers, what the guest has no buffers for stays at the host side; so a saved machine
// loses nothing.
//
// A console is written as a serial line is, by the processor that prints: a guest waits with it for
// the end of each piece, so a reader that stopped loses the oldest. On any other port the guest's
// program waits for the reader, and nothing is lost.
//
// Work(), which the machine calls on a thread of the device's own after each ring(), moves what
// else the guest sends; what comes from the host is put into its buffers on the I/O thread.
//
// Locks: work_mutex_ or receive_mutex_ before all others of the device; ports_mutex_ is a leaf.
class VirtioConsole final : public VirtioDevice {
 public:
  static constexpr unsigned kMaxPorts = VirtioConsoleState::kMaxPorts;
  static constexpr uint16_t kQueueSize = 64;
  static constexpr size_t kMaxName = VirtioConsolePortState::kMaxName;

  struct Port {
    std::string name;           // that the guest sees; empty: none
    bool is_console = false;    // the guest may print its messages and log in there
    vmm::CharBackend* backend;  // outlives the device
  };
  // `ports`: at least one. `ring`: any thread, never waits.
  VirtioConsole(std::string name, std::vector<Port> ports, const Host& host,
                std::function<void()> ring);
  ~VirtioConsole() override;

  // Moves what can be moved. One thread at a time.
  void Work();
  // The guest has ended: hands out what it sent and its readers have not yet taken, as long as they
  // take any, and `most` at all.
  void HandOut(std::chrono::milliseconds idle, std::chrono::milliseconds most);
  // A reader's window may have another size. Any thread.
  void OnWindowChange() { ring_(); }

  uint16_t type() const override { return console::kType; }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) const override;
  uint64_t config_size() const override { return console::kConfigSize; }

  void Pause() override;
  void Resume() override;
  VirtioConsoleState SaveConsole() const;
  // kConfigInvalid: it is of other ports, or can't be. After the transport's state.
  vmm::Result<void> LoadConsole(const VirtioConsoleState& state);

 private:
  // What the driver has yet to be told of a port, in this order; then come its reader and window.
  enum class Tell : uint8_t { kAdd = 1, kConsole = 2, kName = 4 };

  // A port's end on the host side.
  struct End final : vmm::CharReceiver, vmm::CharWatcher {
    End(VirtioConsole& of, unsigned number, Port port)
        : console(of), id(number), config(std::move(port)) {}
    size_t OnInput(std::span<const uint8_t> data) override { return console.Receive(*this, data); }
    void OnHostChange() override { console.ring_(); }

    VirtioConsole& console;
    const unsigned id;
    const Port config;
    // Input was refused: whoever makes room says so to the back end.
    std::atomic<bool> input_waits{false};

    // Guarded by ports_mutex_.
    uint8_t to_tell = 0;
    bool is_ready = false;    // the driver knows it
    bool guest_open = false;  // a program of the guest has it open
    unsigned told_reader = 0;
    vmm::CharWindow told_window;
    uint64_t sent = 0;
  };
  static constexpr unsigned kAReaderGone = ~0u;  // told_reader: one of before

  // To the driver.
  struct Message {
    std::array<uint8_t, sizeof(console::Control) + kMaxName> bytes;
    size_t size = 0;  // 0: there is none
    void Append(std::span<const uint8_t> more);
  };

  void OnKick(unsigned) override { ring_(); }
  void OnDoorbell(unsigned queue) override;
  void OnReset() override;

  bool HasManyPorts() const {
    return HasFeature(static_cast<uint64_t>(console::Feature::MULTIPORT));
  }
  size_t Receive(End& port, std::span<const uint8_t> data);
  bool MayReceive(const End& port) const;
  // What became of a port's output.
  enum class Progress : uint8_t { kDone, kMore, kBlocked };
  Progress Transmit(End& port);
  size_t Put(End& port, std::span<const uint8_t> data);
  bool TakeControl();
  void Execute(const console::Control& control);
  void TellDriver();
  void NoticeWindow();
  bool NextMessage(End& port, Message& message, bool take);
  static unsigned ReaderOf(const End& port);
  void ForgetDriver();  // with ports_mutex_ held

  const std::function<void()> ring_;
  std::vector<std::unique_ptr<End>> ports_;
  std::atomic<bool> pauses_{false};  // Work() shall make an end

  mutable std::mutex ports_mutex_;
  vmm::CharWindow window_;  // of port 0, in the registers

  std::mutex receive_mutex_;  // held by Receive(), guards the two below
  bool receive_is_paused_ = false;
  DescriptorChain receive_chain_;

  std::mutex work_mutex_;  // held by Work(), guards the rest
  bool is_paused_ = false;
  DescriptorChain chain_;  // of the queue that is worked
  std::vector<uint8_t> buffer_;
};

}  // namespace virtio
