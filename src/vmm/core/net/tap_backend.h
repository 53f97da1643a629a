// A wire to a tap device of the host, with the kernel's own headers for checksums and segments.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/core/net/net_backend.h"

namespace vmm {

class TapBackend final : public NetBackend {
 public:
  // Attaches to the tap of that name, made beforehand for this user: ip tuntap add dev NAME mode
  // tap user USER. A process with CAP_NET_ADMIN makes it.
  static Result<std::unique_ptr<NetBackend>> Open(const std::string& name);
  // A tap's descriptor that was inherited, opened with IFF_NO_PI; with IFF_VNET_HDR headers pass.
  static Result<std::unique_ptr<NetBackend>> Adopt(UniqueFd tap);

  int fd() const override { return tap_.get(); }
  bool WantsToWrite() const override { return false; }
  bool is_up() const override { return is_up_; }
  NetOffloads takes() const override;
  void SetReceiveOffloads(const NetOffloads& offloads) override;
  bool Send(const NetHeader& header, std::span<const uint8_t> frame) override;
  size_t Receive(NetHeader& header, std::span<uint8_t> to) override;

 private:
  TapBackend(UniqueFd tap, bool has_header) : tap_(std::move(tap)), has_header_(has_header) {}
  static Result<std::unique_ptr<NetBackend>> Make(UniqueFd tap, const std::string& what);

  UniqueFd tap_;
  const bool has_header_;
  bool is_up_ = true;
};

}  // namespace vmm
