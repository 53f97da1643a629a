// What goes wrong while a compressed kernel is read and unpacked is told apart from a damaged one.
#include "vmm/boot/kernel_payload.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "packed_kernels.h"

#ifdef __has_feature  // clang, which our sanitizers come with: their threads need memory themselves
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER
#endif
#endif

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;
using vmm::BootFile;
using vmm::ExitCode;
using vmm::Packing;

// Two blocks of LZ4, whose bytes do not get fewer by packing.
Bytes Incompressible() {
  Bytes bytes(9 << 20);
  uint32_t state = 1;
  for (size_t i = 0; i < bytes.size(); i += 4) Put<uint32_t>(bytes, i, state = state * 69069 + 1);
  return bytes;
}

struct Packed {
  explicit Packed(const Bytes& image) : temp(image) {
    payload = FindKernelPayload(file, vmm::ParseBzImageHeader(file).value()).value();
    out.resize(payload.unpacked_size);
  }
  TempFile temp;
  BootFile file = BootFile::Open("kernel", temp.path()).value();
  vmm::KernelPayload payload;
  Bytes out;
};

TEST_CASE("An LZ4 kernel that can't be read is not called damaged", "[threads]") {
  Packed kernel(PackedKernel(Packing::kLz4, Incompressible()));
  REQUIRE(Unpack(kernel.file, kernel.payload, kernel.out));
  // In the last block, behind all that says how large the blocks are.
  const auto end = kernel.payload.offset + kernel.payload.size;
  REQUIRE(truncate(kernel.temp.path().c_str(), static_cast<off_t>(end - 4096)) == 0);
  const auto unpacked = Unpack(kernel.file, kernel.payload, kernel.out);
  REQUIRE_FALSE(unpacked);
  CHECK(unpacked.error().code == ExitCode::kIoError);
  CHECK(unpacked.error().message ==
        "kernel " + kernel.temp.path() +
            ": shrank while it was read; fix: start again once it is complete");
}

#ifndef HAS_SANITIZER
// This process gets no more address space than it has, but for `more` bytes.
class TightMemory {
 public:
  explicit TightMemory(uint64_t more) {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    REQUIRE(getrlimit(RLIMIT_AS, &before_) == 0);
    rlimit tight = before_;
    tight.rlim_cur = pages * vmm::kPageSize + more;
    REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  }
  ~TightMemory() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

TEST_CASE("An LZ4 kernel that there is no memory for is not called damaged", "[threads]") {
  Packed kernel(PackedKernel(Packing::kLz4, Incompressible()));
  const auto unpacked = [&] {
    const TightMemory tight(2 << 20);
    return Unpack(kernel.file, kernel.payload, kernel.out);
  }();
  REQUIRE_FALSE(unpacked);
  CHECK(unpacked.error().code == ExitCode::kHostMemory);
  CHECK_THAT(unpacked.error().message,
             Contains("kernel " + kernel.temp.path() + ": no memory to unpack it") &&
                 Contains("; fix: free ") && Contains("of the host's memory"));
  CHECK(Unpack(kernel.file, kernel.payload, kernel.out));
}
#endif

TEST_CASE("LZ4 blocks that hold nothing are damaged") {
  Bytes payload = Pack(Packing::kLz4, Bytes(100, 1));
  Put<uint32_t>(payload, 4, uint32_t{0});
  payload.erase(payload.begin() + 8, payload.end() - 4);
  Packed kernel(PackedKernel(payload));
  const auto unpacked = Unpack(kernel.file, kernel.payload, kernel.out);
  REQUIRE_FALSE(unpacked);
  CHECK(unpacked.error().code == ExitCode::kConfigInvalid);
  CHECK_THAT(unpacked.error().message, Contains("its compressed part (LZ4) is damaged"));
}

}  // namespace
