#include "vmm/machine/saved_machine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "vmm/core/state/cpu_state_check.h"
#include "vmm/core/state/cpuid_features.h"
#include "vmm/machine/machine_difference.h"

namespace vmm {
namespace {

constexpr uint32_t kDescriptionVersion = 1, kCpuidVersion = 1;
constexpr uint64_t kLeastTscHz = 1'000'000, kMostTscHz = 100'000'000'000;
constexpr int64_t kLongestNow = int64_t{1} << 60;  // 36 years; sums do not overflow

std::string CpuName(unsigned id) {
  return fmt::format("cpu{}", id);
}

// What one has and the other lacks, by name where it has one.
std::string DescribeCpuid(const std::vector<CpuidEntry>& saved, const CpuidPolicy& here) {
  std::vector<std::string_view> lacking;
  for (const CpuidFeature& feature : CpuidFeatures()) {
    for (const CpuidEntry& entry : saved) {
      if (entry.leaf != feature.leaf || (entry.has_subleaf && entry.subleaf != feature.subleaf)) {
        continue;
      }
      const bool had = CpuidRegs(entry.regs)[feature.reg] >> feature.bit & 1;
      const bool has = here.Has(feature.name);
      if (had && !has) lacking.push_back(feature.name);
    }
  }
  if (!lacking.empty()) return fmt::format("it had the features {}", fmt::join(lacking, ", "));
  for (const CpuidEntry& entry : saved) {
    const CpuidRegs now = here.Query(entry.leaf, entry.subleaf, 0);
    if (now != entry.regs) {
      return fmt::format(
          "CPUID leaf {:#x} was {:08x} {:08x} {:08x} {:08x} and is {:08x} {:08x} "
          "{:08x} {:08x} here",
          entry.leaf, entry.regs.eax, entry.regs.ebx, entry.regs.ecx, entry.regs.edx, now.eax,
          now.ebx, now.ecx, now.edx);
    }
  }
  return "it knew fewer CPUID leaves";
}

bool Equal(const std::vector<CpuidEntry>& a, const std::vector<CpuidEntry>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const CpuidEntry& x, const CpuidEntry& y) {
                      return x.leaf == y.leaf && x.subleaf == y.subleaf &&
                             x.has_subleaf == y.has_subleaf && x.regs == y.regs;
                    });
}

}  // namespace

void PutParts(const MachineParts& parts, Sections& out) {
  out.PutBytes("machine", kDescriptionVersion, parts.description);
  FieldWriter cpuid;
  cpuid.Put(static_cast<uint32_t>(parts.cpuid.size()));
  for (const CpuidEntry& entry : parts.cpuid) cpuid.Put(entry);
  out.PutBytes("cpuid", kCpuidVersion, cpuid.Take());
  out.Put("clock", parts.clock);
  for (unsigned id = 0; id < parts.cpus.size(); ++id) out.Put(CpuName(id), parts.cpus[id]);
}

Result<void> WriteMachine(const std::filesystem::path& path, const Sections& sections,
                          const GuestMemory& memory) {
  auto file = StateFileWriter::Create(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  return WriteSections(sections, **file)
      .and_then([&] { return WriteMemory(memory, **file); })
      .and_then([&] { return (*file)->Commit(); });
}

Result<std::unique_ptr<SavedMachine>> SavedMachine::Open(const std::filesystem::path& path) {
  auto saved = std::make_unique<SavedMachine>();
  auto file = StateFileReader::Open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  saved->file_ = std::move(*file);
  auto sections = ReadSections(*saved->file_);
  if (!sections) return tl::unexpected(std::move(sections.error()));
  saved->sections_ = std::move(*sections);
  if (auto taken = saved->TakeCommonParts(); !taken) {
    return tl::unexpected(std::move(taken.error()));
  }
  return saved;
}

Result<void> SavedMachine::TakeCommonParts() {
  auto description = sections_.TakeBytes("machine", kDescriptionVersion);
  if (!description) return tl::unexpected(std::move(description.error()));
  description_ = std::move(*description);
  auto clock = sections_.Take<SavedClock>("clock");
  if (!clock) return tl::unexpected(std::move(clock.error()));
  clock_ = *clock;
  if (clock_.now_ns < 0 || clock_.now_ns > kLongestNow || clock_.tsc_hz < kLeastTscHz ||
      clock_.tsc_hz > kMostTscHz) {
    return Fail(ExitCode::kConfigInvalid, "its state of clock is damaged");
  }
  auto bytes = sections_.TakeBytes("cpuid", kCpuidVersion);
  if (!bytes) return tl::unexpected(std::move(bytes.error()));
  FieldReader reader(*bytes);
  uint32_t count = 0;
  reader.Get(count);
  for (uint32_t i = 0; i < count && reader.ok(); ++i) reader.Get(cpuid_.emplace_back());
  if (!reader.Complete()) return Fail(ExitCode::kConfigInvalid, "its state of cpuid is damaged");
  return {};
}

Result<void> SavedMachine::CheckDescription(std::span<const uint8_t> device_tree) const {
  const std::string difference = DescribeDifference(description_, device_tree);
  if (difference.empty()) return {};
  return Fail(ExitCode::kConfigInvalid, "it is another machine: " + difference);
}

Result<void> SavedMachine::AdoptCpuid(CpuidPolicy& cpuid) const {
  cpuid.Restrict(cpuid_);
  if (Equal(cpuid_, cpuid.entries())) return {};
  return Fail(ExitCode::kEngineUnavailable,
              fmt::format("its processor can't be had here: {}", DescribeCpuid(cpuid_, cpuid)));
}

Result<void> SavedMachine::LoadMemory(const GuestMemory& memory) {
  return ReadMemory(*file_, memory).and_then([&] { return file_->Finish(); });
}

Result<CpuState> SavedMachine::TakeCpu(unsigned id, const CpuidPolicy& cpuid) {
  auto state = sections_.Take<CpuState>(CpuName(id));
  if (!state) return state;
  if (auto possible = CheckCpuState(*state, cpuid); !possible) {
    return tl::unexpected(std::move(possible.error()).WithContext(CpuName(id)));
  }
  return state;
}

}  // namespace vmm
