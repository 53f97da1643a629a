#include "virtio/virtio_console.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"

namespace virtio {

namespace {

constexpr size_t kChunk = 16 * 1024;  // bytes that a back end is given at once
constexpr unsigned kTurn = 16;        // chunks or chains of one port before the next has its turn

std::vector<uint16_t> QueueSizes(size_t ports) {
  return std::vector<uint16_t>(2 * ports + 2, VirtioConsole::kQueueSize);
}

}  // namespace

VirtioConsole::VirtioConsole(std::string name, std::vector<Port> ports, const Host& host,
                             std::function<void()> ring)
    : VirtioDevice(std::move(name),
                   static_cast<uint64_t>(console::Feature::SIZE) |
                       static_cast<uint64_t>(console::Feature::MULTIPORT),
                   QueueSizes(ports.size()), host),
      ring_(std::move(ring)),
      buffer_(kChunk) {
  CHECK(!ports.empty() && ports.size() <= kMaxPorts);
  for (Port& port : ports) {
    CHECK(port.name.size() <= kMaxName);
    const auto id = static_cast<unsigned>(ports_.size());
    ports_.push_back(std::make_unique<End>(*this, id, std::move(port)));
  }
  window_ = ports_[0]->config.backend->window();
  for (const auto& port : ports_) {
    port->config.backend->SetWatcher(port.get());
    port->config.backend->SetReceiver(port.get());
  }
}

VirtioConsole::~VirtioConsole() {
  for (const auto& port : ports_) {
    port->config.backend->SetReceiver(nullptr);
    port->config.backend->SetWatcher(nullptr);
  }
}

void VirtioConsole::ReadConfig(uint64_t offset, std::span<uint8_t> data) const {
  std::array<uint8_t, console::kConfigSize> config{};
  const auto put = [&config](console::Config field, unsigned size, uint64_t value) {
    vmm::StoreLittleEndian(std::span(config).subspan(static_cast<size_t>(field), size), value);
  };
  {
    const std::lock_guard lock(ports_mutex_);
    put(console::Config::cols, 2, window_.columns);
    put(console::Config::rows, 2, window_.rows);
  }
  put(console::Config::max_nr_ports, 4, ports_.size());
  for (uint8_t& byte : data) {
    byte = offset < config.size() ? config[offset] : 0;
    ++offset;
  }
}

void VirtioConsole::ForgetDriver() {
  for (const auto& port : ports_) {
    port->to_tell = 0;
    port->is_ready = port->guest_open = false;
    port->told_reader = 0;
    port->told_window = {};
    port->sent = 0;
  }
}

void VirtioConsole::OnReset() {
  const std::lock_guard lock(ports_mutex_);
  ForgetDriver();
}

void VirtioConsole::Work() {
  const std::lock_guard lock(work_mutex_);
  if (is_paused_) return;
  NoticeWindow();
  bool more = TakeControl();
  TellDriver();
  for (const auto& port : ports_) {
    more = Transmit(*port) == Progress::kMore || more;
    // Whatever woke us may have made room, or opened the port.
    if (port->input_waits.exchange(false)) port->config.backend->ResumeInput();
  }
  if (more) ring_();
}

// --- From the guest. 5.3.6.1 ---

size_t VirtioConsole::Put(End& port, std::span<const uint8_t> data) {
  if (!port.config.is_console) return port.config.backend->Offer(data);
  port.config.backend->Write(data);
  return data.size();
}

// A chain that the host side has not yet taken whole goes back into the ring, with a note of how
// much of it is over. With a chain in our hands no reset ends, so the note is of that driver.
VirtioConsole::Progress VirtioConsole::Transmit(End& port) {
  const unsigned queue = console::TransmitQueue(port.id);
  for (unsigned turn = 0; turn < kTurn;) {
    if (pauses_) return Progress::kMore;
    if (!Take(queue, chain_)) return Progress::kDone;
    if (chain_.writable.length() != 0) {
      Reject(queue, "output has buffers to write");
      return Progress::kDone;
    }
    const uint64_t length = chain_.readable.length();
    uint64_t done;
    {
      const std::lock_guard lock(ports_mutex_);
      done = std::exchange(port.sent, 0);
    }
    bool is_blocked = false;
    do {
      const auto part = std::span(buffer_).first(
          std::min<uint64_t>(buffer_.size(), length - std::min(done, length)));
      chain_.readable.Read(done, part);
      const size_t taken = Put(port, part);
      done += taken;
      is_blocked = taken < part.size();
    } while (++turn < kTurn && done < length && !is_blocked && !pauses_);
    if (done >= length) {
      Return(queue, chain_.head, 0);
      continue;
    }
    {
      const std::lock_guard lock(ports_mutex_);
      port.sent = done;
    }
    PutBack(queue, 1);
    if (is_blocked) return Progress::kBlocked;
  }
  return Progress::kMore;
}

void VirtioConsole::OnDoorbell(unsigned queue) {
  for (const auto& port : ports_) {
    if (!port->config.is_console || console::TransmitQueue(port->id) != queue) continue;
    const std::unique_lock lock(work_mutex_, std::try_to_lock);
    if (lock && !is_paused_ && Transmit(*port) == Progress::kDone) return;
  }
  ring_();
}

void VirtioConsole::HandOut(std::chrono::milliseconds idle, std::chrono::milliseconds most) {
  using std::chrono::steady_clock;
  const std::lock_guard lock(work_mutex_);
  if (is_paused_) return;
  const auto end = steady_clock::now() + most;
  for (const auto& port : ports_) {
    for (;;) {
      const Progress progress = Transmit(*port);
      if (progress == Progress::kDone || pauses_) break;
      const auto left = std::min<std::chrono::nanoseconds>(idle, end - steady_clock::now());
      if (left <= left.zero()) return;
      if (progress == Progress::kBlocked && !port->config.backend->WaitForRoom(left)) break;
    }
  }
}

// --- To the guest. ---

bool VirtioConsole::MayReceive(const End& port) const {
  if (!HasManyPorts()) return port.id == 0;
  const std::lock_guard lock(ports_mutex_);
  return port.guest_open;
}

// What is not taken is offered again after the next kick or message of the driver.
size_t VirtioConsole::Receive(End& port, std::span<const uint8_t> data) {
  const std::lock_guard lock(receive_mutex_);
  port.input_waits = true;  // before we look: room that comes meanwhile is told of
  if (receive_is_paused_ || !MayReceive(port)) return 0;
  const unsigned queue = console::ReceiveQueue(port.id);
  size_t done = 0;
  while (done < data.size() && Take(queue, receive_chain_)) {
    const ChainBuffers& out = receive_chain_.writable;
    if (receive_chain_.readable.length() != 0 || out.length() == 0) {
      Reject(queue, "a buffer for input is empty, or to be read");
      break;
    }
    const size_t part = std::min<uint64_t>(data.size() - done, out.length());
    out.Write(0, data.subspan(done, part), writes());
    Return(queue, receive_chain_.head, static_cast<uint32_t>(part));
    done += part;
  }
  if (done == data.size()) port.input_waits = false;
  return done;
}

// --- The machine's. ---

void VirtioConsole::Pause() {
  pauses_ = true;
  const std::scoped_lock lock(work_mutex_, receive_mutex_);
  is_paused_ = receive_is_paused_ = true;
}

void VirtioConsole::Resume() {
  {
    const std::scoped_lock lock(work_mutex_, receive_mutex_);
    is_paused_ = receive_is_paused_ = false;
    pauses_ = false;
  }
  KickAll();
}

VirtioConsoleState VirtioConsole::SaveConsole() const {
  const std::lock_guard lock(ports_mutex_);
  VirtioConsoleState state;
  state.ports = static_cast<uint32_t>(ports_.size());
  for (const auto& port : ports_) {
    VirtioConsolePortState& saved = state.port[port->id];
    std::ranges::copy(port->config.name, saved.name.begin());
    saved.is_console = port->config.is_console;
    saved.to_tell = port->to_tell;
    saved.is_ready = port->is_ready;
    saved.guest_open = port->guest_open;
    saved.told_open = port->told_reader != 0;
    saved.told_columns = port->told_window.columns;
    saved.told_rows = port->told_window.rows;
    saved.sent = port->sent;
  }
  return state;
}

vmm::Result<void> VirtioConsole::LoadConsole(const VirtioConsoleState& state) {
  constexpr uint8_t kAllTells = 2 * static_cast<uint8_t>(Tell::kName) - 1;
  bool good = state.version == VirtioConsoleState::kVersion && state.ports == ports_.size();
  const VirtioConsoleState own = SaveConsole();
  for (unsigned i = 0; i < kMaxPorts; ++i) {
    const VirtioConsolePortState& port = state.port[i];
    good = good && port.name == own.port[i].name && port.is_console == own.port[i].is_console &&
           (port.to_tell & ~kAllTells) == 0;
  }
  if (!good) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: its saved ports are not those that it has", name()));
  }
  const std::lock_guard lock(ports_mutex_);
  for (const auto& port : ports_) {
    const VirtioConsolePortState& saved = state.port[port->id];
    const unsigned reader = ReaderOf(*port);
    port->to_tell = saved.to_tell;
    port->is_ready = saved.is_ready;
    port->guest_open = saved.guest_open;
    // Somebody who reads from the beginning on is as good as whoever read before.
    port->told_reader = !saved.told_open ? 0 : reader != 0 ? reader : kAReaderGone;
    port->told_window = {.columns = saved.told_columns, .rows = saved.told_rows};
    port->sent = saved.sent;
  }
  return {};
}

}  // namespace virtio
