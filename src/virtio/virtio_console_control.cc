// The console's control messages: ports are added, named, opened and closed. [VIRTIO 1.2] 5.3.6.2
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "virtio/virtio_console.h"
#include "vmm/core/base/log.h"

namespace virtio {

using console::Control;
using console::Event;

namespace {

constexpr unsigned kBatch = 64;  // messages of the driver in one run

template <class T>
std::span<const uint8_t> BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

}  // namespace

// --- From the driver. ---

// True: there may be more.
bool VirtioConsole::TakeControl() {
  for (unsigned count = 0; count < kBatch; ++count) {
    if (pauses_ || !Take(console::kControlTransmit, chain_)) return false;
    Control control;
    if (chain_.readable.length() < sizeof control || chain_.writable.length() != 0) {
      Reject(console::kControlTransmit, "a control message is too short, or has buffers to write");
      return false;
    }
    chain_.readable.Read(0, {reinterpret_cast<uint8_t*>(&control), sizeof control});
    Execute(control);  // with the chain in our hands: it is this driver's
    Return(console::kControlTransmit, chain_.head, 0);
  }
  return true;
}

void VirtioConsole::Execute(const Control& control) {
  if (!HasManyPorts()) return;
  const std::lock_guard lock(ports_mutex_);
  if (static_cast<Event>(control.event) == Event::DEVICE_READY) {
    if (control.value != 1) return;  // the driver gives up
    for (const auto& port : ports_) port->to_tell |= static_cast<uint8_t>(Tell::kAdd);
    return;
  }
  if (control.id >= ports_.size()) return;
  End& port = *ports_[control.id];
  switch (static_cast<Event>(control.event)) {
    case Event::PORT_READY:
      port.is_ready = control.value == 1;
      port.told_reader = 0;
      port.told_window = {};
      port.to_tell = 0;
      if (!port.is_ready) break;
      if (port.config.is_console) port.to_tell |= static_cast<uint8_t>(Tell::kConsole);
      if (!port.config.name.empty()) port.to_tell |= static_cast<uint8_t>(Tell::kName);
      break;
    case Event::PORT_OPEN:
      port.guest_open = control.value == 1;
      break;
    default:  // a device's own, or of a later specification
      break;
  }
}

// --- To the driver. ---

void VirtioConsole::Message::Append(std::span<const uint8_t> more) {
  std::ranges::copy(more, bytes.begin() + static_cast<ptrdiff_t>(size));
  size += more.size();
}

// A console is always open: it is written whether somebody reads or not.
unsigned VirtioConsole::ReaderOf(const End& port) {
  return port.config.is_console ? 1 : port.config.backend->reader();
}

// The next one about the port. False: there is none. With `take` it counts as told.
bool VirtioConsole::NextMessage(End& port, Message& message, bool take) {
  const unsigned reader = ReaderOf(port);
  const vmm::CharWindow window = port.config.backend->window();
  const std::lock_guard lock(ports_mutex_);
  message.size = 0;
  const auto begin = [&](Event event, uint16_t value) {
    const Control control{port.id, static_cast<uint16_t>(event), value};
    message.Append(BytesOf(control));
  };
  const auto due = [&](Tell tell) {
    if ((port.to_tell & static_cast<uint8_t>(tell)) == 0) return false;
    if (take) port.to_tell &= static_cast<uint8_t>(~static_cast<uint8_t>(tell));
    return true;
  };
  if (due(Tell::kAdd)) {
    begin(Event::PORT_ADD, 0);
  } else if (!port.is_ready) {
    return false;
  } else if (due(Tell::kConsole)) {
    begin(Event::CONSOLE_PORT, 1);
  } else if (due(Tell::kName)) {
    begin(Event::PORT_NAME, 1);
    message.Append(
        {reinterpret_cast<const uint8_t*>(port.config.name.data()), port.config.name.size()});
  } else if (port.told_reader != reader) {
    // One that went is told of before the next, however soon that came.
    const bool is_open = port.told_reader == 0;
    begin(Event::PORT_OPEN, is_open ? 1 : 0);
    if (take) port.told_reader = is_open ? reader : 0;
  } else if (port.config.is_console && port.told_window != window) {
    begin(Event::RESIZE, 0);
    message.Append(BytesOf(console::Resize{window.columns, window.rows}));
    if (take) port.told_window = window;
  }
  return message.size != 0;
}

void VirtioConsole::TellDriver() {
  if (!HasManyPorts()) return;
  Message message;
  for (const auto& port : ports_) {
    while (!pauses_ && NextMessage(*port, message, /*take=*/false)) {
      if (!Take(console::kControlReceive, chain_)) return;
      // With a chain in our hands no reset ends: what is due now is due to this driver.
      if (!NextMessage(*port, message, /*take=*/true)) {
        PutBack(console::kControlReceive, 1);
        break;
      }
      if (chain_.readable.length() != 0 || chain_.writable.length() < message.size) {
        Reject(console::kControlReceive, "a buffer has no room for a control message");
        return;
      }
      chain_.writable.Write(0, std::span(message.bytes).first(message.size), writes());
      Return(console::kControlReceive, chain_.head, static_cast<uint32_t>(message.size));
    }
  }
}

// A driver of one port looks into the registers. 5.3.4
void VirtioConsole::NoticeWindow() {
  const vmm::CharWindow window = ports_[0]->config.backend->window();
  {
    const std::lock_guard lock(ports_mutex_);
    if (std::exchange(window_, window) == window) return;
  }
  ConfigChanged();
}

}  // namespace virtio
