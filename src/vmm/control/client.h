// The other end of the control socket: asks and waits, for `vmm ctl`.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>
#include <string>

#include "vmm/control/request.h"
#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm::control {

class Client {
 public:
  // Of an answer that needs no work.
  static constexpr std::chrono::milliseconds kPatience{30'000};

  // Connects and reads the greeting. kUnavailable: no machine runs there, or it speaks another
  // protocol; kNoPermission; kConfigInvalid: the path is too long for a socket.
  static Result<Client> Connect(const std::string& path);

  // Sends the requests in one piece: nothing comes between them.
  Result<void> Send(std::span<const Request> requests);
  // The next answer, that to a request of `command`: a line of JSON without its end. kIoError: the
  // machine ended before. Waits as long as it takes for what takes its time (suspend, move, wait).
  Result<std::string> Receive(Command command);
  // Returns once the process of the machine is gone, and with it what it left and held.
  void AwaitEnd();

 private:
  explicit Client(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<std::string> ReadLine(std::chrono::milliseconds patience);

  UniqueFd fd_;
  UniqueFd process_;   // a pidfd; none where it can't be had
  std::string input_;  // read and not used
};

}  // namespace vmm::control
