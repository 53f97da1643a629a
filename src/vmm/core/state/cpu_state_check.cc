#include "vmm/core/state/cpu_state_check.h"

#include <algorithm>
#include <cstring>

namespace vmm {
namespace {

tl::unexpected<Error> Bad(std::string_view what) {
  return Fail(ExitCode::kConfigInvalid,
              "no processor can be in the saved state: " + std::string(what));
}

// Bits that exist. [SDM 1] figure 3-8, [SDM 3A] 2.5, [SDM 3A] 2.2.1
constexpr uint64_t kRflags = 0x3f7fd7, kRflagsVm = 1 << 17, kRflagsOne = 2;
constexpr uint64_t kCr0 = 0xe005003f, kCr0Pe = 1, kCr0Nw = 1 << 29, kCr0Cd = 1 << 30,
                   kCr0Pg = 1u << 31;
constexpr uint64_t kCr4 = 0x1f77fff, kCr4Pae = 1 << 5;
constexpr uint64_t kEfer = 0x4d01, kEferLme = 1 << 8, kEferLma = 1 << 10, kEferAibrse = 1 << 21;
constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4;
constexpr uint32_t kAccess = 0x1f0ff;

bool Canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

template <class T>
T Get(const XsaveArea& area, unsigned offset) {
  T value;
  std::memcpy(&value, area.bytes.data() + offset, sizeof value);
  return value;
}

// [SDM 1] 13.4.1, 13.4.2, 10.2.3
Result<void> CheckXsave(const CpuState& state, const CpuidPolicy& cpuid) {
  constexpr unsigned kMxcsr = 24, kXstateBv = 512, kXcompBv = 520, kHeaderEnd = 576;
  constexpr uint32_t kMxcsrBits = 0x2ffff;  // with AMD's MM: the engine knows whether it has that
  const uint64_t components = cpuid.xcr0_mask() | kX87 | kSse;
  if (Get<uint32_t>(state.xsave, kMxcsr) & ~kMxcsrBits) return Bad("MXCSR");
  if (Get<uint64_t>(state.xsave, kXstateBv) & ~components) return Bad("XSTATE_BV");
  const auto& bytes = state.xsave.bytes;
  if (std::any_of(bytes.begin() + kXcompBv, bytes.begin() + kHeaderEnd,
                  [](uint8_t byte) { return byte != 0; })) {
    return Bad("the header of the XSAVE area");
  }
  if (!(state.xcr0 & kX87) || (state.xcr0 & ~(cpuid.xcr0_mask() | kX87)) ||
      ((state.xcr0 & kAvx) && !(state.xcr0 & kSse))) {
    return Bad("XCR0");
  }
  return {};
}

}  // namespace

void MaskXstate(CpuState& state, const CpuidPolicy& cpuid) {
  constexpr unsigned kXstateBv = 512;
  uint64_t components = Get<uint64_t>(state.xsave, kXstateBv);
  components &= cpuid.xcr0_mask() | kX87 | kSse;
  std::memcpy(state.xsave.bytes.data() + kXstateBv, &components, sizeof components);
}

Result<void> CheckCpuState(const CpuState& state, const CpuidPolicy& cpuid) {
  const bool lma = state.msr.efer & kEferLma;
  const bool paging = state.cr0 & kCr0Pg;
  if (!(state.rflags & kRflagsOne) || (state.rflags & ~kRflags)) return Bad("RFLAGS");
  if ((state.rflags & kRflagsVm) && (lma || !(state.cr0 & kCr0Pe))) return Bad("RFLAGS.VM");
  if ((state.cr0 & ~kCr0) || (paging && !(state.cr0 & kCr0Pe)) ||
      ((state.cr0 & kCr0Nw) && !(state.cr0 & kCr0Cd))) {
    return Bad("CR0");
  }
  if (state.cr3 >> 63 || (state.cr3 & ~((uint64_t{1} << cpuid.physical_address_bits()) - 1))) {
    return Bad("CR3");
  }
  if (state.cr4 & ~kCr4) return Bad("CR4");
  if (state.cr8 > 15) return Bad("CR8");
  const uint64_t aibrse = cpuid.Has("autoibrs") ? kEferAibrse : 0;
  if ((state.msr.efer & ~(kEfer | aibrse)) || lma != ((state.msr.efer & kEferLme) && paging)) {
    return Bad("EFER");
  }
  if (lma && !(state.cr4 & kCr4Pae)) return Bad("CR4.PAE");
  if (state.dr6 >> 32 || state.dr7 >> 32) return Bad("DR6 or DR7");
  for (const SegmentState& segment : state.seg) {
    if (segment.access & ~kAccess) return Bad("a segment's access rights");
    if (lma && !Canonical(segment.base)) return Bad("a segment's base");
  }
  if ((state.ldtr.access | state.tr.access) & ~kAccess) return Bad("LDTR or TR");
  const SegmentState& cs = state.seg[static_cast<unsigned>(Seg::CS)];
  if (lma && cs.l() && cs.db()) return Bad("CS");
  if (lma && (!Canonical(state.gdtr.base) || !Canonical(state.idtr.base))) {
    return Bad("GDTR or IDTR");
  }
  const CpuState::Events& events = state.events;
  if (events.exception_pending && events.exception_vector > 31) return Bad("a pending exception");
  if (state.activity > Activity::kWaitForSipi) return Bad("its activity");
  return CheckXsave(state, cpuid);
}

}  // namespace vmm
