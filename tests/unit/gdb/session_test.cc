// The conversation, against a machine of two processors that does as it is told. [GDB] E.2
#include "vmm/gdb/session.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "vmm/core/base/bytes.h"

using vmm::DebugPoint;
using vmm::GuestVirt;
using vmm::gdb::Architecture;
using vmm::gdb::Motion;
using vmm::gdb::Session;
using vmm::gdb::StopEvent;
using Motions = std::vector<Motion::Kind>;

namespace {

class FakeMachine final : public vmm::gdb::Target {
 public:
  FakeMachine() {
    for (unsigned cpu = 0; cpu < 2; ++cpu) {
      vmm::ResetCpuState(states[cpu], cpu, 0);
      states[cpu].msr.efer = 0x500;
      states[cpu].cr0 = 0x80000011;
      states[cpu].rip = 0x1000 + cpu;
    }
  }
  unsigned cpu_count() const override { return 2; }
  vmm::Result<void> ReadState(unsigned cpu, vmm::CpuState& state) override {
    state = states[cpu];
    return {};
  }
  vmm::Result<void> WriteState(unsigned cpu, const vmm::CpuState& state) override {
    states[cpu] = state;
    return {};
  }
  size_t ReadMemory(unsigned cpu, bool physical, uint64_t address,
                    std::span<uint8_t> out) override {
    last_cpu = cpu;
    last_physical = physical;
    size_t done = 0;
    for (; done < out.size() && address + done < memory.size(); ++done) {
      out[done] = memory[address + done];
    }
    return done;
  }
  bool WriteMemory(unsigned, bool, uint64_t address, std::span<const uint8_t> in) override {
    if (address > memory.size() || in.size() > memory.size() - address) return false;
    std::ranges::copy(in, memory.begin() + static_cast<long>(address));
    return true;
  }
  vmm::Result<void> SetPoints(unsigned, std::span<const DebugPoint> wanted) override {
    if (wanted.size() > most_points) return vmm::Fail(vmm::ExitCode::kUnavailable, "full");
    points.assign(wanted.begin(), wanted.end());
    return {};
  }
  void Resume(std::span<const Motion> how) override {
    motions.assign(how.begin(), how.end());
    ++resumes;
  }
  void Interrupt() override { ++interrupts; }
  void Detach() override { ++detachments; }
  void Kill() override { ++kills; }
  void ResetMachine() override { ++resets; }
  void InjectNmi(unsigned cpu) override { nmi_cpu = static_cast<int>(cpu); }
  void PressPowerButton() override { ++power_buttons; }
  void LetStepsTakeInterrupts(bool on) override { steps_take_interrupts = on; }

  Motions Kinds() const {
    Motions kinds;
    for (const Motion& motion : motions) kinds.push_back(motion.kind);
    return kinds;
  }

  std::array<vmm::CpuState, 2> states;
  std::vector<uint8_t> memory = std::vector<uint8_t>(0x4000);
  std::vector<DebugPoint> points;
  size_t most_points = 100;
  std::vector<Motion> motions;
  unsigned resumes = 0, interrupts = 0, detachments = 0, kills = 0, resets = 0, power_buttons = 0;
  unsigned last_cpu = 0;
  bool last_physical = false, steps_take_interrupts = false;
  int nmi_cpu = -1;
};

struct Talk {
  explicit Talk(const StopEvent& stop = {}) {
    session.emplace(machine, Architecture::k64, false, stop,
                    Session::Hooks{[this](std::string_view text) { sent.emplace_back(text); },
                                   [this] { ++acks_stopped; }});
  }
  // The answer; "(none)" when there is not exactly one.
  std::string Ask(std::string_view packet) {
    sent.clear();
    session->OnPacket(packet);
    return sent.size() == 1 ? sent.front() : "(none)";
  }
  std::string StopAt(const StopEvent& stop) {
    sent.clear();
    session->OnStop(stop);
    return sent.size() == 1 ? sent.front() : "(none)";
  }
  std::string Monitor(std::string_view command) {
    const auto text = vmm::gdb::FromHex(Ask("qRcmd," + vmm::gdb::ToHex(command)));
    return text ? std::string(text->begin(), text->end()) : "(no text)";
  }
  FakeMachine machine;
  std::vector<std::string> sent;
  unsigned acks_stopped = 0;
  std::optional<Session> session;
};

StopEvent Point(DebugPoint::Kind kind, uint64_t address, unsigned cpu = 0) {
  return {StopEvent::Cause::kPoint, cpu, {kind, GuestVirt(address), 1}};
}

}  // namespace

TEST_CASE("a session begins with what GDB asks first", "[gdb]") {
  Talk talk;
  const std::string supported =
      talk.Ask("qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386");
  CHECK(supported.find("PacketSize=4000") != std::string::npos);
  CHECK(supported.find("qXfer:features:read+") != std::string::npos);
  CHECK(supported.find("QStartNoAckMode+") != std::string::npos);
  CHECK(talk.Ask("vMustReplyEmpty") == "");
  CHECK(talk.Ask("QStartNoAckMode") == "OK");
  CHECK(talk.acks_stopped == 1);
  CHECK(talk.Ask("?") == "T02thread:1;");
  CHECK(talk.Ask("vCont?") == "vCont;c;C;s;S;r");
  CHECK(talk.Ask("qAttached") == "1");
  CHECK(talk.Ask("qSymbol::") == "");
  CHECK(talk.Ask("nonsense") == "");
}

TEST_CASE("the description is sent in pieces as small as GDB wants", "[gdb]") {
  Talk talk;
  const std::string whole = talk.Ask("qXfer:features:read:target.xml:0,3ff0").substr(1);
  std::string pieces;
  for (std::string answer = "m"; answer.front() == 'm';) {
    char packet[64];
    std::snprintf(packet, sizeof packet, "qXfer:features:read:target.xml:%zx,100", pieces.size());
    answer = talk.Ask(packet);
    REQUIRE(!answer.empty());
    pieces += answer.substr(1);
  }
  CHECK(pieces.starts_with(whole));
  CHECK(pieces.ends_with("</target>\n"));
  CHECK(talk.Ask("qXfer:features:read:other.xml:0,100") == "E00");
  CHECK(talk.Ask("qXfer:features:read:target.xml:ffffffff,100") == "E01");
  CHECK(talk.Ask("qXfer:memory-map:read::0,100") == "");
}

TEST_CASE("processors are threads", "[gdb]") {
  Talk talk;
  CHECK(talk.Ask("qfThreadInfo") == "m1,2");
  CHECK(talk.Ask("qsThreadInfo") == "l");
  CHECK(talk.Ask("qC") == "QC1");
  CHECK(talk.Ask("T2") == "OK");
  CHECK(talk.Ask("T3") == "E01");
  CHECK(talk.Ask("Hg2") == "OK");
  CHECK(talk.Ask("p10") == "0110000000000000");  // RIP of CPU 1
  CHECK(talk.Ask("Hg0") == "OK");
  CHECK(talk.Ask("p10") == "0110000000000000");
  CHECK(talk.Ask("Hg7") == "E01");
  talk.machine.states[1].activity = vmm::Activity::kHalted;
  const auto text = vmm::gdb::FromHex(talk.Ask("qThreadExtraInfo,2"));
  REQUIRE(text);
  CHECK(std::string(text->begin(), text->end()) == "CPU 1 [halted]");
}

TEST_CASE("registers are read and written one by one and all at once", "[gdb]") {
  Talk talk;
  std::string all = talk.Ask("g");
  CHECK(all.size() > 400);
  CHECK(talk.Ask("P0=8877665544332211") == "OK");
  CHECK(talk.machine.states[0].gpr[0] == 0x1122334455667788);
  CHECK(talk.Ask("p0") == "8877665544332211");
  all.replace(0, 2, "99");
  CHECK(talk.Ask("G" + all) == "OK");
  CHECK(talk.machine.states[0].gpr[0] == 0x99);
  CHECK(talk.Ask("G99") == "E01");
  CHECK(talk.Ask("Gxx") == "E01");
  CHECK(talk.Ask("P0=88") == "E01");
  CHECK(talk.Ask("p1000") == "E01");
  CHECK(talk.Ask("pffffffffffffffff") == "E01");
  CHECK(talk.Ask("P10=0000000000000080") == "E01");  // RIP not canonical
  CHECK(talk.machine.states[0].rip == 0x1000);
}

TEST_CASE("memory is read up to its end and written as hexadecimal or binary", "[gdb]") {
  Talk talk;
  CHECK(talk.Ask("M10,3:0aBbcc") == "OK");
  CHECK(talk.Ask("m10,4") == "0abbcc00");
  CHECK(talk.Ask(std::string("X20,4:\x00#}$", 10)) == "OK");
  CHECK(talk.Ask("m20,4") == "00237d24");
  CHECK(talk.Ask("X20,0:") == "OK");
  CHECK(talk.Ask("m3ffe,10") == "0000");
  CHECK(talk.Ask("m4000,1") == "E0e");
  CHECK(talk.Ask("m0,ffffffffffffffff").size() < 0x4000);
  CHECK(talk.Ask("M3fff,2:0000") == "E0e");
  CHECK(talk.Ask("M10,3:0abb") == "E01");
  CHECK(talk.Ask("M10,2:0abx") == "E01");
  CHECK(talk.Ask("m10") == "E01");
  CHECK(talk.Ask("m,4") == "E01");
  CHECK_FALSE(talk.machine.last_physical);
  CHECK(talk.Monitor("physical on").find("physical") != std::string::npos);
  talk.Ask("m10,1");
  CHECK(talk.machine.last_physical);
}

TEST_CASE("breakpoints of five kinds come and go", "[gdb]") {
  Talk talk;
  for (unsigned kind = 0; kind < 5; ++kind) {
    const std::string place = std::to_string(kind) + ",ffffffff81000000,4";
    CHECK(talk.Ask("Z" + place) == "OK");
    CHECK(talk.Ask("Z" + place) == "OK");  // idempotent
    REQUIRE(talk.machine.points.size() == 1);
    const DebugPoint& point = talk.machine.points[0];
    CHECK(point.kind == static_cast<DebugPoint::Kind>(kind));
    CHECK(point.address.value == 0xffffffff81000000);
    CHECK(point.length == (kind < 2 ? 1 : 4));
    CHECK(talk.Ask("z" + place) == "OK");
    CHECK(talk.Ask("z" + place) == "OK");
    CHECK(talk.machine.points.empty());
  }
  CHECK(talk.Ask("Z5,0,1") == "");
  CHECK(talk.Ask("Z0,") == "E01");
  CHECK(talk.Ask("Zx") == "E01");
  talk.machine.most_points = 0;
  CHECK(talk.Ask("Z1,1000,1") == "E01");
  CHECK(talk.Ask("Z3,1000,1") == "");  // GDB then asks for Z4
  CHECK(talk.Ask("z1,1000,1") == "OK");
}

TEST_CASE("vCont gives each thread the leftmost action that fits", "[gdb]") {
  using Kind = Motion::Kind;
  Talk talk;
  const auto motions = [&](std::string_view packet) {
    CHECK(talk.Ask(packet) == "(none)");
    talk.session->OnStop({StopEvent::Cause::kStep, 0, {}});
    return talk.machine.Kinds();
  };
  CHECK(motions("vCont;c") == Motions{Kind::kRun, Kind::kRun});
  CHECK(motions("vCont;s:2;c") == Motions{Kind::kRun, Kind::kStep});
  CHECK(motions("vCont;s:1") == Motions{Kind::kStep, Kind::kStay});
  CHECK(motions("vCont;c:2;S05:-1") == Motions{Kind::kStep, Kind::kRun});
  CHECK(motions("vCont;C05") == Motions{Kind::kRun, Kind::kRun});
  CHECK(motions("vCont;r1000,1010:1;c") == Motions{Kind::kStepRange, Kind::kRun});
  CHECK(talk.machine.motions[0].range_start == 0x1000);
  CHECK(talk.machine.motions[0].range_end == 0x1010);
  const unsigned before = talk.machine.resumes;
  for (const char* bad :
       {"vCont", "vCont;", "vCont;x", "vCont;c:9", "vCont;r1000:1", "vCont;s:q"}) {
    INFO(bad);
    CHECK(talk.Ask(bad) == "E01");
  }
  CHECK(talk.machine.resumes == before);
}

TEST_CASE("the old packets move the thread that Hc chose", "[gdb]") {
  using Kind = Motion::Kind;
  Talk talk;
  const auto motions = [&](std::string_view packet) {
    CHECK(talk.Ask(packet) == "(none)");
    talk.session->OnStop({StopEvent::Cause::kStep, 0, {}});
    return talk.machine.Kinds();
  };
  CHECK(motions("c") == Motions{Kind::kRun, Kind::kRun});
  CHECK(motions("s") == Motions{Kind::kStep, Kind::kRun});
  CHECK(talk.Ask("Hc2") == "OK");
  CHECK(motions("s2000") == Motions{Kind::kStay, Kind::kStep});
  CHECK(talk.machine.states[1].rip == 0x2000);
  CHECK(motions("C05;3000") == Motions{Kind::kStay, Kind::kRun});
  CHECK(talk.machine.states[1].rip == 0x3000);
  CHECK(talk.Ask("Hc-1") == "OK");
  CHECK(motions("S05") == Motions{Kind::kStep, Kind::kRun});
  CHECK(talk.Ask("cxyz") == "E01");
  CHECK(talk.Ask("C") == "E01");
}

TEST_CASE("a stop says why and on which thread", "[gdb]") {
  using Kind = DebugPoint::Kind;
  Talk talk;
  const auto stop = [&](const StopEvent& event) {
    talk.Ask("vCont;c");
    return talk.StopAt(event);
  };
  CHECK(stop({StopEvent::Cause::kStep, 1, {}}) == "T05thread:2;");
  CHECK(stop({StopEvent::Cause::kAsked, 0, {}}) == "T02thread:1;");
  CHECK(stop({StopEvent::Cause::kTripleFault, 0, {}}) == "T06thread:1;");
  CHECK(stop(Point(Kind::kWrite, 0x5000)) == "T05watch:5000;thread:1;");
  CHECK(stop(Point(Kind::kRead, 0x5000)) == "T05rwatch:5000;thread:1;");
  CHECK(stop(Point(Kind::kAccess, 0xffffffff81000000, 1)) ==
        "T05awatch:ffffffff81000000;thread:2;");
  CHECK(stop(Point(Kind::kSoftware, 0x1000)) == "T05thread:1;");  // GDB did not ask for it
  talk.Ask("qSupported:swbreak+;hwbreak+");
  CHECK(stop(Point(Kind::kSoftware, 0x1000)) == "T05swbreak:;thread:1;");
  CHECK(stop(Point(Kind::kHardware, 0x1001, 1)) == "T05hwbreak:;thread:2;");
  // In real mode CS has a base: GDB would look for its breakpoint at RIP, and go on.
  CHECK(stop(Point(Kind::kHardware, 0x9000, 1)) == "T05thread:2;");
  CHECK(talk.Ask("?") == "T05thread:2;");
  CHECK(talk.Ask("p10") == "0110000000000000");  // the thread that stopped is the current one
}

TEST_CASE("a machine that runs hears only Ctrl-C, detach and kill", "[gdb]") {
  Talk talk;
  talk.session->OnInterrupt();
  CHECK(talk.machine.interrupts == 0);  // it stands already
  talk.Ask("vCont;c");
  CHECK(talk.Ask("g") == "E01");
  CHECK(talk.Ask("m0,4") == "E01");
  CHECK(talk.Ask("vCont;c") == "E01");
  CHECK(talk.machine.resumes == 1);
  talk.session->OnInterrupt();
  CHECK(talk.machine.interrupts == 1);
  CHECK(talk.StopAt({}) == "T02thread:1;");
  CHECK(talk.StopAt({}) == "(none)");  // told once
}

TEST_CASE("a debugger leaves, or ends the run", "[gdb]") {
  Talk leaving;
  CHECK(leaving.Ask("D") == "OK");
  CHECK(leaving.machine.detachments == 1);
  CHECK(leaving.session->done());
  Talk killing;
  CHECK(killing.Ask("k") == "(none)");
  CHECK(killing.machine.kills == 1);
  CHECK(killing.session->done());
  Talk asking;
  CHECK(asking.Ask("vKill;1") == "OK");
  CHECK(asking.machine.kills == 1);
  CHECK(asking.Ask("g") == "(none)");  // it is over
}

TEST_CASE("the end of a run is told to a debugger that waits for a stop", "[gdb]") {
  Talk talk;
  talk.Ask("vCont;c");
  talk.sent.clear();
  talk.session->OnEnd(86);
  CHECK(talk.sent == std::vector<std::string>{"W56"});
  talk.session->OnEnd(0);
  CHECK(talk.sent.size() == 1);
}

TEST_CASE("monitor commands reach the machine", "[gdb]") {
  Talk talk;
  talk.machine.states[0].gpr[0] = 0xabcdef;
  CHECK(talk.Monitor("info registers").find("rax 0000000000abcdef") != std::string::npos);
  CHECK(talk.Monitor("info cpus").find("CPU 1 (thread 2)") != std::string::npos);
  CHECK(talk.Monitor("help").find("monitor reset") != std::string::npos);
  CHECK(talk.Monitor("flup").find("unknown command 'flup'") != std::string::npos);
  CHECK(talk.Monitor("reset").find("reset") != std::string::npos);
  CHECK(talk.machine.resets == 1);
  CHECK(talk.Ask("qRcmd," + vmm::gdb::ToHex("interrupts on")) == "OK");
  CHECK(talk.machine.steps_take_interrupts);
  talk.Ask("Hg2");
  CHECK(talk.Ask("qRcmd," + vmm::gdb::ToHex("nmi")) == "OK");
  CHECK(talk.machine.nmi_cpu == 1);
  talk.Monitor("powerdown");
  CHECK(talk.machine.power_buttons == 1);
  CHECK(talk.Ask("qRcmd,zz") == "E01");
  CHECK(talk.Ask("!") == "OK");
  CHECK(talk.Ask("R00") == "(none)");
  CHECK(talk.machine.resets == 2);
  CHECK(talk.Ask("qRcmd," + vmm::gdb::ToHex("quit")) == "OK");
  CHECK(talk.machine.kills == 1);
}
