// Where debuggers connect: a socket, one client at a time, packets in and out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "vmm/config/config.h"
#include "vmm/core/base/result.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/core/host/unix_listener.h"
#include "vmm/gdb/packet.h"

namespace vmm::gdb {

// The I/O thread only.
class Server {
 public:
  struct Hooks {
    std::function<void()> on_connect;
    std::function<void(std::string_view packet)> on_packet;
    std::function<void()> on_interrupt;
    std::function<void()> on_disconnect;  // by the client, or after HangUp()
  };

  // kUnavailable when the address can't be had; the message names it.
  static Result<std::unique_ptr<Server>> Listen(const GdbSpec& spec, EventLoop& loop, Hooks hooks);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // What GDB's `target remote` wants: "127.0.0.1:1234", or the path of the socket.
  const std::string& where() const { return where_; }

  void Send(std::string_view text);  // nothing without a client
  void StopAcks() { acks_ = false; }
  // Closes the connection once all is sent, but does not wait long. on_disconnect comes soon.
  void HangUp();
  // The loop runs no more: sends what the client takes within a moment.
  void Finish();

 private:
  Server(EventLoop& loop, Hooks hooks) : loop_(loop), hooks_(std::move(hooks)) {}
  Result<void> ListenTcp(const GdbSpec& spec);
  void OnConnection();
  void OnClient(uint32_t events);
  void Receive();
  void Handle(std::span<const uint8_t> bytes);
  void Write(std::string_view bytes);
  void Flush();
  void Watch();
  void Drop();

  EventLoop& loop_;
  const Hooks hooks_;
  std::string where_;
  bool tcp_ = false;
  UnixListener listener_;  // the file is empty for TCP
  UniqueFd client_;
  PacketReader reader_;
  std::string last_frame_;  // to be repeated when it arrives damaged
  std::string output_;      // what the socket did not take yet
  uint32_t watched_ = 0;    // epoll events of the client
  bool acks_ = true;
  bool hanging_up_ = false, dropping_ = false;
};

}  // namespace vmm::gdb
