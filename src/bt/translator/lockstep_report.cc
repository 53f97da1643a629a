// What is told of the first difference: both states, the guest's code and the host's.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "bt/interp/fpu.h"
#include "bt/isa/disassembler.h"
#include "bt/translator/lockstep.h"

namespace bt {
namespace {

constexpr const char* kNames[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8",
                                  "R9",  "R10", "R11", "R12", "R13", "R14", "R15", "RIP"};

std::string Row(std::string_view name, uint64_t is, uint64_t should) {
  return fmt::format("  {:<14} {:016x}  {:016x}{}\n", name, is, should,
                     is == should ? "" : "  differs");
}

}  // namespace

std::string Translator::Lockstep::Report(const Point& want, size_t done, bool passed) {
  const System& system = systems_[want.system];
  std::string text = fmt::format(
      "lockstep: CPU {}, after {} instructions: translated code and the interpreter differ\n"
      "block at physical {:#x}; {} instructions from {:#x} on{}\n"
      "  {:<14} {:<16}  {:<16}\n",
      cpu_.id_, cpu_.instructions_, from_->block->phys, done, points_[0].r[kRip],
      passed ? ", past one that needs the interpreter" : "", "", "translated", "interpreter");
  for (unsigned i = 0; i <= kRip; ++i) text += Row(kNames[i], cpu_.r[i], want.r[i]);
  text += Row("flags", FlagsToEflags(cpu_.flags_), FlagsToEflags(want.flags));
  text += Row("RFLAGS, others", cpu_.rflags_, system.rflags);
  text += Row("CPL", cpu_.cpl_, system.cpl);
  for (unsigned i = 0; i < 6; ++i) {
    text += Row(fmt::format("base {}", i), cpu_.seg_base_[i], system.seg_base[i]);
    if (cpu_.seg_[i].selector != system.seg[i].selector)
      text += Row(fmt::format("selector {}", i), cpu_.seg_[i].selector, system.seg[i].selector);
  }
  text += Row("KERNEL_GS_BASE", cpu_.msr_.kernel_gs_base, system.kernel_gs_base);
  const Fpu& fpu = fpus_[want.fpu];
  for (size_t at = 0; at < kFpuBytes; at += 8) {
    uint64_t is, should;
    std::memcpy(&is, cpu_.fpu_.bytes.data() + at, 8);
    std::memcpy(&should, fpu.data() + at, 8);
    if (is != should) text += Row(fmt::format("XSAVE + {:#x}", at), is, should);
  }
  if (!passed && !MemoryIs(want.writes)) text += MemoryReport();
  return text + CodeReport();
}

// After MemoryIs().
std::string Translator::Lockstep::MemoryReport() {
  std::string text;
  for (const Write& write : writes_) {
    const std::span<const uint8_t> is(write.host, write.size);
    const std::span<const uint8_t> should(&data_[write.data], write.size);
    if (std::ranges::equal(is, should)) continue;
    text += fmt::format("  memory at {:#x}: {:02x} instead of {:02x}\n", write.linear,
                        fmt::join(is, " "), fmt::join(should, " "));
  }
  return text;
}

std::string Translator::Lockstep::CodeReport() {
  const auto found = places_.find(from_);
  if (found == places_.end()) return {};
  const Place& place = found->second;
  constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);
  std::string text = "guest code\n";
  for (const Block* block : place.blocks) {
    std::array<uint8_t, BlockCache::kMaxBytes> bytes;
    if (!translator_.FetchBytes(*block, bytes.data())) continue;
    const uint64_t linear = (points_[0].r[kRip] & kPageMask) | (block->phys & ~kPageMask);
    text += Disassemble({bytes.data(), block->bytes}, linear);
  }
  const auto code = [&](CodeVerifier::Range range) {
    const uint8_t* at = translator_.space_.run(range.begin);
    return Disassemble({at, range.end - range.begin}, reinterpret_cast<uint64_t>(at));
  };
  text += (from_->plain ? "host code without spans\n" : "host code\n") + code(place.hot);
  return text + "its cold part\n" + code(place.cold);
}

}  // namespace bt
