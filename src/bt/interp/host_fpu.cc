#include "bt/interp/host_fpu.h"

#include <array>
#include <cstring>

namespace bt {
namespace {

constexpr unsigned kFsw = 2, kFop = 6, kFip = 8, kFdp = 16, kMxcsrMask = 28;
constexpr uint8_t kErrorSummary = 0x80;

void Narrow(X87Header header) {
  std::memset(&header[kFip + 4], 0, 4);
  std::memset(&header[kFdp + 4], 0, 4);
}

HostFpu Ask() {
  // FLD1 leaves an instruction pointer and no exception; bytes that are 0xcc were not written.
  struct alignas(16) Image {
    std::array<uint8_t, 512> bytes;
  } before, asked;
  asked.bytes.fill(0xcc);
  asm volatile(
      "fxsave64 %0\n"
      "fninit\n"
      "fld1\n"
      "fxsave64 %1\n"
      "fxrstor64 %0"
      : "=m"(before), "+m"(asked)
      :
      : "memory");
  HostFpu result{};
  std::memcpy(&result.mxcsr_mask, asked.bytes.data() + kMxcsrMask, sizeof(result.mxcsr_mask));
  if (result.mxcsr_mask == 0) result.mxcsr_mask = 0xffbf;  // [SDM 1] 11.6.6
  uint64_t fip;
  std::memcpy(&fip, asked.bytes.data() + kFip, sizeof(fip));
  result.idle_pointers = fip == 0                    ? HostFpu::IdlePointers::kZeroed
                         : fip == 0xcccccccccccccccc ? HostFpu::IdlePointers::kSkipped
                                                     : HostFpu::IdlePointers::kKept;
  return result;
}

}  // namespace

const HostFpu& TheHostFpu() {
  static const HostFpu asked = Ask();
  return asked;
}

unsigned StoredHeader(HostFpu::IdlePointers kind, bool wide, X87Header header) {
  if (!wide) Narrow(header);
  if (header[kFsw] & kErrorSummary) return kX87HeaderSize;
  if (kind == HostFpu::IdlePointers::kSkipped) return kFop;
  if (kind == HostFpu::IdlePointers::kZeroed) std::memset(&header[kFop], 0, kX87HeaderSize - kFop);
  return kX87HeaderSize;
}

void LoadedHeader(HostFpu::IdlePointers kind, bool wide, std::span<const uint8_t> before,
                  X87Header header) {
  if (kind == HostFpu::IdlePointers::kSkipped && !(header[kFsw] & kErrorSummary)) {
    std::memcpy(&header[kFop], &before[kFop], kX87HeaderSize - kFop);
    return;
  }
  header[kFop + 1] &= 7;
  if (!wide) Narrow(header);
}

}  // namespace bt
