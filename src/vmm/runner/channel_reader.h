// Takes the frames of the init in the guest (core/protocol/test_channel.h) out of a stream of
// bytes. The guest may send anything.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/protocol/test_channel.h"

namespace vmm {

// Before the first frame other bytes are passed over: who owned the line then is not known. After
// it, whatever is no frame in its turn means that somebody else wrote to the line: from there on
// nothing is believed.
class ChannelReader {
 public:
  struct Frame {
    test_channel::Type type;
    std::string_view payload;  // until the next call
  };

  // The bytes that came; then Next() until there is none.
  void Put(std::span<const uint8_t> bytes);
  std::optional<Frame> Next();

  // Why nothing more is believed; empty as long as all is well.
  const std::string& damage() const { return damage_; }

 private:
  enum class Look { kFrame, kIncomplete, kNone };
  Look LookAt(size_t at) const;
  std::string WhatIsWrong() const;

  std::vector<uint8_t> bytes_;
  size_t from_ = 0;  // the first that is not used up
  uint32_t next_number_ = 0;
  bool greeted_ = false;
  std::string damage_;
};

// What the frames have said by now.
struct ChannelState {
  bool greeted = false;
  bool started = false;
  std::string kernel;  // its release
  std::string problem;
  std::vector<std::string> notes;
  struct End {
    test_channel::How how = test_channel::How::kExited;
    uint8_t number = 0;
  };
  std::optional<End> end;

  bool over() const { return end.has_value() || !problem.empty(); }
  // Takes all frames but those of output. False: it contradicts what was said before, or means
  // nothing.
  bool Take(const ChannelReader::Frame& frame);
};

// Text of a guest for a message: one line, no control characters.
std::string PlainText(std::string_view text);

}  // namespace vmm
