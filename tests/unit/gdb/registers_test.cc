// [GDB] G.5.15; [SDM 1] 10.5.1 for the x87 and SSE image
#include "vmm/gdb/registers.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "vmm/core/base/bytes.h"

using vmm::CpuState;
using vmm::gdb::Architecture;
using vmm::gdb::RegisterSet;

namespace {

struct Cpu {
  explicit Cpu(Architecture architecture = Architecture::k64, bool avx = true)
      : set(architecture, avx) {
    vmm::ResetCpuState(state, 0, 0);
  }
  unsigned Number(std::string_view name) const {
    const auto number = set.Find(name);
    INFO(name);
    REQUIRE(number);
    return *number;
  }
  uint64_t Read(std::string_view name) const {
    return vmm::LoadLittleEndian(set.Read(Number(name), state));
  }
  bool Write(std::string_view name, uint64_t value) {
    std::vector<uint8_t> bytes(set.at(Number(name)).size);
    vmm::StoreLittleEndian(bytes, value);
    return set.Write(Number(name), bytes, state);
  }
  RegisterSet set;
  CpuState state;
};

}  // namespace

TEST_CASE("the core registers stand in the order and size that GDB expects", "[gdb]") {
  const Cpu wide;
  CHECK(wide.Number("rax") == 0);
  CHECK(wide.Number("rsp") == 7);
  CHECK(wide.Number("rip") == 16);
  CHECK(wide.Number("eflags") == 17);
  CHECK(wide.Number("st0") == 24);
  CHECK(wide.Number("xmm0") == 40);
  CHECK(wide.set.at(24).size == 10);
  const Cpu narrow(Architecture::k32, false);
  CHECK(narrow.Number("eax") == 0);
  CHECK(narrow.Number("esp") == 4);
  CHECK(narrow.Number("eip") == 8);
  CHECK(narrow.set.at(8).size == 4);
  CHECK_FALSE(narrow.set.Find("r8"));
  CHECK_FALSE(narrow.set.Find("xmm8"));
  CHECK_FALSE(narrow.set.Find("ymm0h"));
}

TEST_CASE("the description names each register once and says the architecture", "[gdb]") {
  for (const Architecture architecture :
       {Architecture::k16, Architecture::k32, Architecture::k64}) {
    const RegisterSet set(architecture, true);
    const std::string xml = set.Description();
    std::set<std::string> names;
    for (unsigned i = 0; i < set.count(); ++i) {
      CHECK(names.insert(set.at(i).name).second);
      CHECK(xml.find("<reg name=\"" + set.at(i).name + "\"") != std::string::npos);
    }
    CHECK(set.ReadAll(CpuState{}).size() > 200);
  }
  CHECK(Cpu().set.Description().find("<architecture>i386:x86-64<") != std::string::npos);
  CHECK(Cpu(Architecture::k32).set.Description().find("<architecture>i386<") != std::string::npos);
  CHECK(Cpu(Architecture::k16).set.Description().find("<architecture>i8086<") != std::string::npos);
}

TEST_CASE("the architecture follows the processor's mode", "[gdb]") {
  CpuState state;
  CHECK(vmm::gdb::ArchitectureOf(state) == Architecture::k16);
  state.cr0 = 1;
  CHECK(vmm::gdb::ArchitectureOf(state) == Architecture::k32);
  state.rflags |= 1 << 17;
  CHECK(vmm::gdb::ArchitectureOf(state) == Architecture::k16);
  state.rflags = 2;
  state.msr.efer = 0x500;
  CHECK(vmm::gdb::ArchitectureOf(state) == Architecture::k64);
}

TEST_CASE("what is written is read back, and reaches the state", "[gdb]") {
  Cpu cpu;
  cpu.state.msr.efer = 0x500;
  cpu.state.cr0 = 0x80000011;
  CHECK(cpu.Write("r15", 0x1122334455667788));
  CHECK(cpu.state.gpr[15] == 0x1122334455667788);
  CHECK(cpu.Write("rip", 0xffffffff81000000));
  CHECK(cpu.state.rip == 0xffffffff81000000);
  CHECK(cpu.Write("eflags", 0x202));
  CHECK(cpu.state.rflags == 0x202);
  CHECK(cpu.Write("gs_base", 0xffff888000000000));
  CHECK(cpu.state.seg[5].base == 0xffff888000000000);
  CHECK(cpu.Write("k_gs_base", 0x1000));
  CHECK(cpu.Write("dr7", 0x401));
  CHECK(cpu.Read("dr7") == 0x401);
  CHECK(cpu.Write("cr3", 0x5000));
  CHECK(cpu.Read("cr3") == 0x5000);
}

TEST_CASE("a debugger can't change the mode, nor give a register what it can't have", "[gdb]") {
  Cpu cpu;
  cpu.state.msr.efer = 0x500;
  cpu.state.cr0 = 0x80010011;
  cpu.state.cr4 = 0x20;
  const CpuState before = cpu.state;
  CHECK_FALSE(cpu.Write("rip", 0x8000000000000000));
  CHECK_FALSE(cpu.Write("cr0", 0x00010011));
  CHECK_FALSE(cpu.Write("cr4", 0));
  CHECK_FALSE(cpu.Write("cr4", 0x1000020));
  CHECK_FALSE(cpu.Write("efer", 0));
  CHECK_FALSE(cpu.Write("cr8", 16));
  CHECK_FALSE(cpu.Write("mxcsr", 0x10000));
  CHECK_FALSE(cpu.Write("cs", 8));
  CHECK_FALSE(cpu.Write("eflags", 0x20002));
  CHECK(cpu.set.ReadAll(cpu.state) == cpu.set.ReadAll(before));
  CHECK(cpu.Write("cr0", 0x80000011));  // WP is no mode
  CHECK(cpu.Write("cs", before.seg[1].selector));
}

TEST_CASE("a selector takes its base along in real mode", "[gdb]") {
  Cpu cpu(Architecture::k16);
  cpu.state.cr0 = 0x10;
  CHECK(cpu.Write("ds", 0x1234));
  CHECK(cpu.state.seg[3].base == 0x12340);
  CHECK(cpu.Read("ds_base") == 0x12340);
  CHECK_FALSE(cpu.Write("ds", 0x12345));
}

TEST_CASE("a 32-bit description leaves the upper halves alone", "[gdb]") {
  Cpu cpu(Architecture::k32);
  cpu.state.gpr[3] = 0x1111111122222222;
  CHECK(cpu.Read("ebx") == 0x22222222);
  CHECK(cpu.Write("ebx", 0x33333333));
  CHECK(cpu.state.gpr[3] == 0x1111111133333333);
}

TEST_CASE("the x87 tag word is made from the abridged one and the values", "[gdb]") {
  Cpu cpu;
  auto& image = cpu.state.xsave.bytes;
  image[2] = 0x00;
  image[3] = 0x30;  // TOP = 6
  image[4] = 0xc0;  // physical 6 and 7 are in use: ST0 and ST1
  const uint8_t one[] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
  std::copy(std::begin(one), std::end(one), image.begin() + 32);
  CHECK(cpu.Read("ftag") == 0x4fff);  // ST0 valid, ST1 zero, the rest empty
  CHECK(cpu.set.Read(cpu.Number("st0"), cpu.state) ==
        std::vector<uint8_t>(std::begin(one), std::end(one)));
  CHECK(cpu.Write("ftag", 0xffff));
  CHECK(image[4] == 0);
  CHECK(cpu.Write("fctrl", 0x27f));
  CHECK(image[0] == 0x7f);
}

TEST_CASE("a component in its initial configuration reads so, and leaves it when written",
          "[gdb]") {
  Cpu cpu;
  auto& image = cpu.state.xsave.bytes;
  image[512] = 0;                                       // XSTATE_BV
  std::fill_n(image.begin() + 32, 800, uint8_t{0xaa});  // stale
  image[512] = 0;
  std::fill_n(image.begin() + 513, 7, uint8_t{0});
  CHECK(cpu.Read("fctrl") == 0x37f);
  CHECK(cpu.Read("ftag") == 0xffff);
  CHECK(cpu.set.Read(cpu.Number("xmm3"), cpu.state) == std::vector<uint8_t>(16));
  CHECK(cpu.set.Read(cpu.Number("ymm3h"), cpu.state) == std::vector<uint8_t>(16));
  std::vector<uint8_t> value(16, 0x55);
  CHECK(cpu.set.Write(cpu.Number("xmm3"), value, cpu.state));
  CHECK(cpu.set.Read(cpu.Number("xmm3"), cpu.state) == value);
  CHECK(cpu.set.Read(cpu.Number("xmm4"), cpu.state) == std::vector<uint8_t>(16));
  CHECK(image[512] == 2);
  CHECK(cpu.set.Write(cpu.Number("ymm15h"), value, cpu.state));
  CHECK(image[512] == 6);
  CHECK(std::equal(value.begin(), value.end(), image.begin() + 576 + 15 * 16));
}

TEST_CASE("all registers go and come at once, or not at all", "[gdb]") {
  Cpu cpu;
  cpu.state.msr.efer = 0x500;
  cpu.state.cr0 = 0x80000011;
  std::vector<uint8_t> all = cpu.set.ReadAll(cpu.state);
  all[0] = 0x42;
  CHECK(cpu.set.WriteAll(all, cpu.state));
  CHECK(cpu.state.gpr[0] == 0x42);
  all[0] = 0x43;
  CHECK_FALSE(cpu.set.WriteAll(std::span(all).first(all.size() - 1), cpu.state));
  all[16 * 8 + 7] = 0x80;  // RIP is not canonical
  CHECK_FALSE(cpu.set.WriteAll(all, cpu.state));
  CHECK(cpu.state.gpr[0] == 0x42);
}
