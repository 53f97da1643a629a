// A wire with a recorder on it: every frame of both directions goes into a pcap file.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/core/net/net_backend.h"

namespace vmm {

// [PCAP]: nanoseconds, Ethernet. Frames are noted as they pass here: large ones before they are
// segmented, checksums that somebody else is to finish as they are. What the host can't write ends
// the record, not the wire; the log says so.
class PcapBackend final : public NetBackend {
 public:
  // Makes the file anew.
  static Result<std::unique_ptr<NetBackend>> Create(const std::filesystem::path& path,
                                                    std::unique_ptr<NetBackend> wire);
  ~PcapBackend() override { WriteOut(); }

  int fd() const override { return wire_->fd(); }
  bool WantsToWrite() const override { return wire_->WantsToWrite(); }
  bool is_up() const override { return wire_->is_up(); }
  NetOffloads takes() const override { return wire_->takes(); }
  void SetReceiveOffloads(const NetOffloads& offloads) override {
    wire_->SetReceiveOffloads(offloads);
  }
  bool Send(const NetHeader& header, std::span<const uint8_t> frame) override;
  void Flush() override {
    wire_->Flush();
    WriteOut();
  }
  size_t Receive(NetHeader& header, std::span<uint8_t> to) override;

 private:
  PcapBackend(UniqueFd file, std::filesystem::path path, std::unique_ptr<NetBackend> wire);
  void Note(std::span<const uint8_t> frame);
  void WriteOut();

  UniqueFd file_;  // none: the record is over
  const std::filesystem::path path_;
  const std::unique_ptr<NetBackend> wire_;
  std::vector<uint8_t> out_;
};

}  // namespace vmm
