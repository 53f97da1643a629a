// Lock-step notices what is wrong with translated code, and nothing else.
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "bt/translator/translator.h"
#include "tests/unit/bt/bare_machine.h"

namespace {

using bt::LeaveOut;
using Code = std::vector<uint8_t>;

bt::Translator::Trial g_trial;
std::vector<std::string> g_reports;

std::unique_ptr<bt::Tier> MakeTier(bt::Cpu& cpu) {
  return std::make_unique<bt::Translator>(cpu, g_trial);
}

// At CPL 0. Page kReadOnly cannot be written to.
class Machine : public LongModeMachine {
 public:
  static constexpr uint64_t kCode = 0x10000, kData = 0x20000, kStack = 0x30800, kReadOnly = 0x40000;

  explicit Machine(LeaveOut leave_out = LeaveOut::kNothing)
      : LongModeMachine(3, &MakeTier, [leave_out](vmm::VmParts& parts) {
          g_trial = {leave_out, [](const std::string& report) { g_reports.push_back(report); }};
          g_reports.clear();
          parts.lockstep = true;
        }) {
    SetEntry(0x4000 + kReadOnly / vmm::kPageSize * 8, kReadOnly | 1);
  }

  // Runs `code`, `times` over, from its start to its end.
  void Run(const Code& code, unsigned times, uint64_t rdi = kData) {
    Store(kCode, code);
    for (; times > 0; --times) {
      Registers gpr{};
      for (unsigned i = 0; i < 16; ++i) gpr[i] = i;
      gpr[4] = kStack;
      gpr[6] = kData + 0x100;
      gpr[7] = rdi;
      RunHot(kCode, code.size(), gpr, 200);
    }
  }
  uint64_t Compared() const { return Counted("instructions compared"); }
  const uint8_t* Data() { return Host(kData); }
};

const Code kCompareStoreJump{0x48, 0x39, 0xc8,              // CMP RAX, RCX
                             0x48, 0x89, 0x17,              // MOV [RDI], RDX
                             0x72, 0x00};                   // JB to what follows
const Code kPushPop{0x50, 0x59, 0x53, 0x5b};                // PUSH RAX; POP RCX; PUSH RBX; POP RBX
const Code kMultiply{0x48, 0x0f, 0xaf, 0xc1,                // IMUL RAX, RCX: leaves flags undefined
                     0x48, 0x8b, 0x17};                     // MOV RDX, [RDI]
const Code kStrings{0xf3, 0xaa, 0xb1, 0x05,                 // REP STOSB; MOV CL, 5
                    0xf3, 0xa4, 0x48, 0x01, 0xc8};          // REP MOVSB; ADD RAX, RCX
const Code kLoop{0xff, 0xc1, 0x83, 0xf9, 0x20,              // INC ECX; CMP ECX, 32
                 0x75, 0xf9};                               // JNZ to the start
const Code kVector{0x0f, 0x10, 0x07,                        // MOVUPS XMM0, [RDI]
                   0x0f, 0x58, 0xc0,                        // ADDPS XMM0, XMM0
                   0x0f, 0x11, 0x47, 0x10};                 // MOVUPS [RDI+16], XMM0
const Code kX87{0xdd, 0x07, 0xd8, 0xc0, 0xdd, 0x5f, 0x08};  // FLD [RDI]; FADD; FSTP [RDI+8]
const Code kSystem{0xfa, 0x48, 0x89, 0x07, 0xfb, 0x90};     // CLI; MOV [RDI], RAX; STI; NOP
const Code kCpuid{0x31, 0xc0, 0x0f, 0xa2, 0x01, 0xd8};      // XOR EAX, EAX; CPUID; ADD EAX, EBX

}  // namespace

TEST_CASE("lock-step finds nothing wrong with translated code", "[lockstep]") {
  for (const Code& code :
       {kCompareStoreJump, kPushPop, kMultiply, kStrings, kLoop, kVector, kX87, kSystem, kCpuid}) {
    Machine machine;
    machine.Run(code, 10);
    machine.Run(code, 10, Machine::kData + vmm::kPageSize - 4);  // over the end of the page
    INFO((g_reports.empty() ? "" : g_reports[0]));
    CHECK(g_reports.empty());
    CHECK(machine.Compared() > 10);
  }
}

TEST_CASE("memory is as translated code left it after lock-step", "[lockstep]") {
  Machine machine;
  const Code increment{0xff, 0x07, 0xff, 0x07};  // INC DWORD [RDI], twice
  machine.Run(increment, 10);
  CHECK(machine.Data()[0] == 20);
  CHECK(machine.Compared() >= 16);
}

TEST_CASE("lock-step notices flags that are lost", "[lockstep]") {
  Machine machine(LeaveOut::kFlags);
  // DEC RAX; MOV [RDI], RDX; JS to what follows
  machine.Run({0x48, 0xff, 0xc8, 0x48, 0x89, 0x17, 0x78, 0x00}, 10);
  REQUIRE_FALSE(g_reports.empty());
  const std::string& report = g_reports[0];
  for (const char* part :
       {"translated code and the interpreter differ", "block at physical 0x10000",
        "RAX            ffffffffffffffff  ffffffffffffffff\n", "  differs\n",
        "guest code\n  0x10000  dec rax\n  0x10003  mov [rdi], rdx\n", "host code",
        "its cold part"}) {
    INFO(report);
    CHECK(report.find(part) != std::string::npos);
  }
}

TEST_CASE("lock-step notices a write to where only reads are allowed", "[lockstep]") {
  const Code code{0x8b, 0x07, 0x90, 0x48, 0x89, 0x0f};  // MOV EAX, [RDI]; NOP; MOV [RDI], RCX
  Machine machine(LeaveOut::kWrite);
  machine.Run(code, 10, Machine::kReadOnly);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}

TEST_CASE("lock-step notices an access that crosses the end of its page", "[lockstep]") {
  Machine machine(LeaveOut::kCrossing);
  machine.Run({0x48, 0x8b, 0x07}, 1);  // MOV RAX, [RDI]
  machine.Run({0x48, 0x8b, 0x07}, 5, Machine::kData + vmm::kPageSize - 4);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}

TEST_CASE("lock-step notices a span that is looked up for reading alone", "[lockstep]") {
  Machine machine(LeaveOut::kSpanWrite);
  const Code code{0x8b, 0x07, 0x89, 0x4f, 0x08};  // MOV EAX, [RDI]; MOV [RDI+8], ECX
  machine.Run(code, 10, Machine::kReadOnly);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}
