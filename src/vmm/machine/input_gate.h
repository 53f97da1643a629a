// Stands between a console's host side and its serial port in a deterministic run: what comes from
// the host is handed to the machine's time first, and reaches the port when that says so.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "vmm/core/host/char_backend.h"
#include "vmm/core/time/clock.h"

namespace vmm {

class InputGate final : public CharBackend, private CharReceiver {
 public:
  // `post` takes bytes to be given back through Deliver(). `timers` are those of the machine.
  InputGate(CharBackend& host, const Clock& clock, TimerService& timers,
            std::function<void(std::string)> post);

  // In the machine's time: the port gets `bytes`, as soon as it has room.
  void Deliver(std::string_view bytes);
  // Delivered, not yet taken by the port. In the machine's time, or with all vCPUs parked.
  const std::string& waiting() const { return waiting_; }

  void Write(std::span<const uint8_t> data) override { host_.Write(data); }
  void ResumeInput() override;
  void SetReceiver(CharReceiver* receiver) override;

 private:
  static constexpr size_t kMaxOnTheWay = 4096;  // bytes

  size_t OnInput(std::span<const uint8_t> data) override;
  void OfferWaiting();

  CharBackend& host_;
  const Clock& clock_;
  const std::function<void(std::string)> post_;
  CharReceiver* port_ = nullptr;
  const std::unique_ptr<Timer> offer_;  // the port has room: called under its lock, so do it later
  std::mutex mutex_;                    // ranks above the port's: not held while it is called
  size_t on_the_way_ = 0;               // taken from the host, not yet by the port
  bool host_waits_ = false;
  std::string waiting_;  // delivered, not yet taken by the port; in the machine's time only
};

}  // namespace vmm
