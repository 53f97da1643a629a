// Any bytes on the line of the init of `vmm test`: frames come out in their order or not at all,
// and how the bytes are cut changes nothing.
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/base/check.h"
#include "vmm/runner/channel_reader.h"
#include "vmm/runner/outcome_codec.h"
#include "vmm/runner/verdict.h"

using namespace vmm;

namespace {

struct Heard {
  std::vector<std::string> frames;
  ChannelState state;
  bool good = true;
  std::string damage;
};

Heard Listen(std::span<const uint8_t> bytes, size_t step) {
  ChannelReader reader;
  Heard heard;
  while (!bytes.empty()) {
    const auto now = bytes.first(std::min(step, bytes.size()));
    bytes = bytes.subspan(now.size());
    reader.Put(now);
    while (const auto frame = reader.Next()) {
      CHECK(frame->payload.size() <= test_channel::kMaxPayload);
      heard.frames.emplace_back(frame->payload);
      heard.good = heard.good && heard.state.Take(*frame);
    }
  }
  heard.damage = reader.damage();
  return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> bytes(data, size);
  const size_t step = 1 + data[size - 1] % 32;
  const Heard some = Listen(bytes, step), all = Listen(bytes, size);
  CHECK(some.frames == all.frames && some.good == all.good && some.damage == all.damage);
  CHECK(all.damage.empty() || !all.frames.empty());
  // An end is believed only from an init that said hello and began the command.
  CHECK(!all.state.end || (all.state.greeted && all.state.started));
  TestEvidence evidence;
  evidence.channel = all.state;
  evidence.damage = all.damage;
  evidence.outcome = DecodeOutcome(bytes);
  const TestEnd end = Judge(evidence);
  CHECK(end.verdict != TestVerdict::kPass || (all.state.end && all.state.end->number == 0));
  return 0;
}
