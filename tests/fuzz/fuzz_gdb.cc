// Any bytes as what a debugger sends: packets are found or not, and each is answered, whatever it
// says. What we frame is read back as it was.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/core/base/check.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/session.h"

namespace {

using vmm::gdb::PacketReader;

constexpr size_t kMemory = 4096;

// Two processors that do as they are told, and stop at once.
class FuzzMachine final : public vmm::gdb::Target {
 public:
  FuzzMachine() {
    for (unsigned cpu = 0; cpu < 2; ++cpu) vmm::ResetCpuState(states_[cpu], cpu, 0);
  }
  unsigned cpu_count() const override { return 2; }
  vmm::Result<void> ReadState(unsigned cpu, vmm::CpuState& state) override {
    CHECK(cpu < 2);
    state = states_[cpu];
    return {};
  }
  vmm::Result<void> WriteState(unsigned cpu, const vmm::CpuState& state) override {
    CHECK(cpu < 2);
    CHECK((state.cr0 & 1) == (states_[cpu].cr0 & 1) && state.cr8 < 16);
    states_[cpu] = state;
    return {};
  }
  size_t ReadMemory(unsigned, bool, uint64_t address, std::span<uint8_t> out) override {
    CHECK(out.size() <= PacketReader::kMaxPacket / 2);
    return address < kMemory ? std::min<size_t>(out.size(), kMemory - address) : 0;
  }
  bool WriteMemory(unsigned, bool, uint64_t address, std::span<const uint8_t> in) override {
    CHECK(!in.empty());
    return address < kMemory && in.size() <= kMemory - address;
  }
  vmm::Result<void> SetPoints(unsigned cpu, std::span<const vmm::DebugPoint> points) override {
    CHECK(cpu < 2);
    for (const vmm::DebugPoint& point : points) CHECK(point.length > 0);
    if (points.size() > 4) return vmm::Fail(vmm::ExitCode::kUnavailable, "no more");
    return {};
  }
  void Resume(std::span<const vmm::gdb::Motion> motions) override {
    CHECK(motions.size() == 2);
    running = true;
  }
  void Interrupt() override {}
  void Detach() override {}
  void Kill() override {}
  void ResetMachine() override {}
  void InjectNmi(unsigned cpu) override { CHECK(cpu < 2); }
  void PressPowerButton() override {}
  void LetStepsTakeInterrupts(bool) override {}
  bool running = false;

 private:
  vmm::CpuState states_[2];
};

void CheckFrame(std::string_view text) {
  const std::string frame = vmm::gdb::FramePacket(text);
  CHECK(frame.size() >= 4 && frame.front() == '$' && frame[frame.size() - 3] == '#');
  CHECK(frame.find('#', 1) == frame.size() - 3);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzMachine machine;
  for (const auto architecture : {vmm::gdb::Architecture::k32, vmm::gdb::Architecture::k64}) {
    vmm::gdb::Session session(machine, architecture, true, {}, {CheckFrame, [] {}});
    PacketReader reader;
    std::span<const uint8_t> bytes(data, size);
    for (PacketReader::Event event; (event = reader.Next(bytes)) != PacketReader::Event::kNone;) {
      if (event == PacketReader::Event::kInterrupt) session.OnInterrupt();
      if (event != PacketReader::Event::kPacket) continue;
      CHECK(reader.packet().size() <= PacketReader::kMaxPacket);
      session.OnPacket(reader.packet());
      if (std::exchange(machine.running, false)) {
        session.OnStop({vmm::gdb::StopEvent::Cause::kPoint, 1, {}});
      }
    }
    session.OnEnd(0);
  }
  CheckFrame({reinterpret_cast<const char*>(data), size});
  // Any text as a packet, without the luck of a right checksum.
  vmm::gdb::Session session(machine, vmm::gdb::Architecture::k64, true, {}, {CheckFrame, [] {}});
  session.OnPacket({reinterpret_cast<const char*>(data), size});
  return 0;
}
