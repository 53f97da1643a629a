#include "vmm/machine/state_hash.h"

#include <fmt/format.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <type_traits>

namespace vmm {
namespace {

// Takes values one by one, so that the padding between them does not count.
class Hasher {
 public:
  Hasher() { XXH3_64bits_reset(&state_); }
  template <class... T>
  void Add(const T&... values) {
    (AddOne(values), ...);
  }
  uint64_t Digest() const { return XXH3_64bits_digest(&state_); }

 private:
  template <class T>
  void AddOne(const T& value) {
    static_assert(std::has_unique_object_representations_v<T>);
    XXH3_64bits_update(&state_, &value, sizeof(value));
  }
  void AddOne(const SegmentState& segment) {
    Add(segment.selector, segment.access, segment.limit, segment.base);
  }
  void AddOne(const DescriptorTable& table) { Add(table.base, table.limit); }
  void AddOne(const std::array<SegmentState, 6>& segments) {
    for (const SegmentState& segment : segments) AddOne(segment);
  }

  XXH3_state_t state_;
};

bool IsZero(const uint8_t* page) {
  return std::all_of(page, page + kPageSize, [](uint8_t byte) { return byte == 0; });
}

}  // namespace

uint64_t HashCpuState(const CpuState& s) {
  Hasher hash;
  hash.Add(s.gpr, s.rip, s.rflags, s.seg, s.ldtr, s.tr, s.gdtr, s.idtr);
  hash.Add(s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.xcr0, s.dr, s.dr6, s.dr7);
  static_assert(std::has_unique_object_representations_v<CpuState::Msrs>);
  hash.Add(s.msr, s.xsave.bytes);
  hash.Add(s.apic.regs, s.apic.tsc_deadline, s.apic.timer_remaining_ns, s.apic.esr_pending,
           s.apic.ext_int_message);
  const CpuState::Events& e = s.events;
  hash.Add(e.exception_pending, e.exception_vector, e.exception_has_error, e.exception_error,
           e.interrupt_pending, e.interrupt_vector, e.sti_shadow, e.mov_ss_shadow, e.nmi_pending,
           e.nmi_masked, e.smi_masked, e.sipi_vector, s.activity);
  return hash.Digest();
}

uint64_t HashMemory(const GuestMemory& memory) {
  uint64_t sum = 0;
  for (const RamRegion& region : memory.regions()) {
    const auto end = static_cast<off_t>(region.file_offset + region.size);
    off_t data = static_cast<off_t>(region.file_offset);
    // Holes are not touched: that would make pages of them.
    while ((data = lseek(memory.fd(), data, SEEK_DATA)) >= 0 && data < end) {
      const off_t hole = std::min(lseek(memory.fd(), data, SEEK_HOLE), end);
      for (; data < hole; data += kPageSize) {
        const uint64_t offset = static_cast<uint64_t>(data) - region.file_offset;
        const uint8_t* page = region.host + offset;
        if (!IsZero(page)) {
          sum += XXH3_64bits_withSeed(page, kPageSize, region.start.value + offset);
        }
      }
    }
  }
  return sum;
}

Result<std::unique_ptr<StateHashWriter>> StateHashWriter::Create(const std::filesystem::path& path,
                                                                 uint64_t interval,
                                                                 const GuestMemory& memory) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return FailErrno(ExitCode::kCannotCreate, "can't write the state hash " + path.string(), errno);
  }
  std::unique_ptr<StateHashWriter> writer(new StateHashWriter(file, path, memory));
  fmt::print(file, "vmm-state-hash 1 every {}\n", interval);
  return writer;
}

void StateHashWriter::Write(uint64_t position, std::span<Vcpu* const> vcpus) {
  Hasher hash;
  for (Vcpu* vcpu : vcpus) {
    CpuState state;
    if (const Result<void> saved = vcpu->Save(state); !saved) {
      fmt::print(file_.get(), "{} {}\n", position, saved.error().message);
      return;
    }
    hash.Add(HashCpuState(state));
  }
  fmt::print(file_.get(), "{} {:016x}", position, hash.Digest());
  if (position >= next_memory_) {
    next_memory_ += kMemoryEvery;
    fmt::print(file_.get(), " ram {:016x}", HashMemory(memory_));
  }
  std::fputc('\n', file_.get());
}

Result<void> StateHashWriter::Finish() {
  if (std::fflush(file_.get()) == 0 && std::ferror(file_.get()) == 0) return {};
  return FailErrno(ExitCode::kIoError, "the state hash " + path_.string() + " is incomplete",
                   errno);
}

}  // namespace vmm
