// Any bytes as a kernel: an entry inside guest RAM, or an error that names the file.
#include <cstdint>
#include <string>

#include "vmm/boot/load_kernel.h"
#include "vmm/core/base/check.h"

namespace {

constexpr uint64_t kMemory = 32 * vmm::kMiB;

void Load(std::span<const uint8_t> kernel, vmm::ForceEntry entry) {
  // The same memory for all inputs: making it anew would be most of the work.
  static vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kMemory).value());
  vmm::BootRequest request;
  request.command_line = "console=ttyS0";
  request.entry = entry;
  request.memory_is_zero = true;  // large BSS areas cost time and find nothing
  vmm::CpuState cpu;
  vmm::ResetCpuState(cpu, 0, 0);
  auto result =
      vmm::LoadKernel(vmm::BootFile::FromBytes("kernel fuzz", kernel), request, memory, cpu);
  if (!result) {
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
    CHECK(result.error().message.starts_with("kernel fuzz: "));
    return;
  }
  const uint64_t start = cpu.seg[static_cast<size_t>(vmm::Seg::CS)].base + cpu.rip;
  CHECK(start == result->entry.value && start < kMemory);
  for (const auto& placed : result->placed) {
    CHECK(memory.Host(placed.start, placed.size) != nullptr);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Load({data, size}, vmm::ForceEntry::kAuto);
  Load({data, size}, vmm::ForceEntry::kUnpacked);
  Load({data, size}, vmm::ForceEntry::k32);
  Load({data, size}, vmm::ForceEntry::k16);
  return 0;
}
