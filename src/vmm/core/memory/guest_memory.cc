#include "vmm/core/memory/guest_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm {
namespace {

constexpr uint64_t kHugePage = 2 * kMiB;

std::string Mebibytes(uint64_t bytes) {
  return fmt::format("{} MiB", bytes / kMiB);
}

// The kernel would promise any amount for a sparse file and kill the VM when the guest uses it;
// what the host can never give is refused here, with a number.
Result<void> CheckHostCanHold(uint64_t size) {
  struct sysinfo info{};
  if (sysinfo(&info) == 0) {
    const uint64_t host = (uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
    if (size > host) {
      return Fail(ExitCode::kHostMemory,
                  fmt::format("guest memory of {} is more than this host's memory and swap ({}); "
                              "lower `memory`",
                              Mebibytes(size), Mebibytes(host)));
    }
  }
  // ftruncate() beyond RLIMIT_FSIZE would end the process by SIGXFSZ, a memfd included.
  struct rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      size > limit.rlim_cur) {
    return Fail(ExitCode::kHostMemory,
                fmt::format("guest memory of {} is over the file size limit of {}; raise `ulimit "
                            "-f` or lower `memory`",
                            Mebibytes(size), Mebibytes(limit.rlim_cur)));
  }
  return {};
}

// Address space for `size` bytes at a 2 MiB boundary with an unmapped guard on either side, so that
// huge pages fit and an overrun faults. MAP_FAILED when the host refuses.
void* Reserve(uint64_t size, uint8_t** aligned) {
  void* whole = mmap(nullptr, size + 2 * kHugePage, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole != MAP_FAILED) {
    const auto start = reinterpret_cast<uintptr_t>(whole) + kPageSize;
    *aligned = reinterpret_cast<uint8_t*>((start + kHugePage - 1) & ~(kHugePage - 1));
  }
  return whole;
}

}  // namespace

Result<GuestMemory> GuestMemory::Create(uint64_t size, uint64_t rom_size) {
  if (size < kMinSize || size % kPageSize != 0) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("guest memory of {} bytes: must be a multiple of 4 KiB and at least {}",
                            size, Mebibytes(kMinSize)));
  }
  if (rom_size > kMaxRomSize || rom_size % kPageSize != 0) {
    return Fail(ExitCode::kInternal, fmt::format("ROM of {} bytes", rom_size));
  }
  if (auto possible = CheckHostCanHold(size); !possible) {
    return tl::unexpected<Error>(std::move(possible.error()));
  }
  const auto fail = [size](std::string_view step) {
    return FailErrno(ExitCode::kHostMemory,
                     fmt::format("guest memory of {}: {}", Mebibytes(size), step), errno);
  };

  GuestMemory memory;
  memory.size_ = size;
  memory.fd_ = memfd_create("vmm-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory.fd_ < 0) return fail("memfd_create");
  if (ftruncate(memory.fd_, static_cast<off_t>(size)) != 0) return fail("ftruncate");
  // A helper that is handed the descriptor can't shrink the file under us (SIGBUS).
  if (fcntl(memory.fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail("sealing the memfd");
  }
  uint8_t* base = nullptr;
  void* reservation = Reserve(size, &base);
  if (reservation == MAP_FAILED) return fail("reserving address space (see `ulimit -v`)");
  memory.reservation_ = reservation;
  if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memory.fd_,
           0) == MAP_FAILED) {
    return fail("mmap");
  }
  // Both are wishes: a host without huge pages for shared memory runs on small ones.
  madvise(base, size, MADV_HUGEPAGE);
  madvise(base, size, MADV_DONTDUMP);

  const uint64_t low = std::min(size, kLowRamEnd);
  memory.regions_.push_back({GuestPhys(0), low, 0, base});
  if (size > low) memory.regions_.push_back({GuestPhys(4 * kGiB), size - low, low, base + low});
  if (rom_size != 0) {
    void* rom = mmap(nullptr, rom_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rom == MAP_FAILED) return fail("mmap of the ROM");
    memory.rom_ = {GuestPhys(4 * kGiB - rom_size), rom_size, 0, static_cast<uint8_t*>(rom)};
  }
  return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept {
  *this = std::move(other);
}

GuestMemory& GuestMemory::operator=(GuestMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(reservation_, other.reservation_);
  std::swap(size_, other.size_);
  std::swap(regions_, other.regions_);
  std::swap(rom_, other.rom_);
  return *this;
}

GuestMemory::~GuestMemory() {
  if (rom_.host != nullptr) munmap(rom_.host, rom_.size);
  if (reservation_ != nullptr) munmap(reservation_, size_ + 2 * kHugePage);
  if (fd_ >= 0) close(fd_);
}

bool GuestMemory::Read(GuestPhys address, std::span<uint8_t> out) const {
  const uint8_t* host = Host(address, out.size());
  if (host == nullptr) return false;
  if (!out.empty()) std::memcpy(out.data(), host, out.size());
  return true;
}

bool GuestMemory::Write(GuestPhys address, std::span<const uint8_t> in) const {
  uint8_t* host = Ram(address, in.size());
  if (host == nullptr) return false;
  if (!in.empty()) std::memcpy(host, in.data(), in.size());
  return true;
}

}  // namespace vmm
