// A wire whose other end is a test: what was sent is kept, what is to come is put there.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "vmm/core/net/net_backend.h"

namespace vmm {

class FakeWire final : public NetBackend {
 public:
  struct Frame {
    NetHeader header;
    std::vector<uint8_t> bytes;
  };
  explicit FakeWire(const NetOffloads& takes = {}) : takes_(takes) {}

  std::vector<Frame> sent;
  std::deque<Frame> coming;
  size_t room = SIZE_MAX;  // frames that are taken before there is none
  bool up = true;
  NetOffloads receive_offloads;
  bool returns_what_is_sent = false;

  int fd() const override { return -1; }
  bool WantsToWrite() const override { return false; }
  bool is_up() const override { return up; }
  NetOffloads takes() const override { return takes_; }
  void SetReceiveOffloads(const NetOffloads& offloads) override { receive_offloads = offloads; }
  bool Send(const NetHeader& header, std::span<const uint8_t> frame) override {
    if (room == 0) return false;
    --room;
    Frame one{header, {frame.begin(), frame.end()}};
    if (returns_what_is_sent) coming.push_back(one);
    sent.push_back(std::move(one));
    return true;
  }
  size_t Receive(NetHeader& header, std::span<uint8_t> to) override {
    if (coming.empty()) return 0;
    const Frame frame = std::move(coming.front());
    coming.pop_front();
    header = frame.header;
    std::copy(frame.bytes.begin(), frame.bytes.end(), to.begin());
    return frame.bytes.size();
  }

 private:
  const NetOffloads takes_;
};

}  // namespace vmm
