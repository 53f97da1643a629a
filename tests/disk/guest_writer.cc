// The workload of NumberedDisk on a block device of a guest, with a table of what it was promised
// on another.
//
//   guest_writer DEVICE TABLE THREADS OPERATIONS SEED
//
// The table is a Promise for each block. It is written before a block is zeroed and after a flush
// is over, past all caches. Prints "wrote N blocks" at the end.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/disk/numbered_disk.h"

namespace vmm {
namespace {

constexpr size_t kAligned = 512;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

std::unique_ptr<uint8_t, Free> Aligned(size_t bytes) {
  return std::unique_ptr<uint8_t, Free>(static_cast<uint8_t*>(std::aligned_alloc(4096, bytes)));
}

class Device final : public BlockImage {
 public:
  explicit Device(const char* path) : name_(path), fd_(open(path, O_RDWR | O_DIRECT | O_CLOEXEC)) {
    ioctl(fd_, BLKGETSIZE64, &size_);
  }

  int Read(uint64_t, IoBuffers) override { return ENOTSUP; }
  int Write(uint64_t offset, IoBuffers from) override {
    const uint64_t length = TotalLength(from);
    const auto copy = Aligned((length + 4095) & ~uint64_t{4095});
    uint64_t at = 0;
    for (const iovec& buffer : from) {
      std::memcpy(copy.get() + at, buffer.iov_base, buffer.iov_len);
      at += buffer.iov_len;
    }
    const ssize_t wrote = pwrite(fd_, copy.get(), length, static_cast<off_t>(offset));
    return wrote == static_cast<ssize_t>(length) ? 0 : wrote < 0 ? errno : EIO;
  }
  int Flush() override { return fdatasync(fd_) == 0 ? 0 : errno; }
  int Discard(uint64_t offset, uint64_t length) override {
    uint64_t range[] = {offset, length};
    return ioctl(fd_, BLKDISCARD, range) == 0 ? 0 : errno;
  }
  int WriteZeroes(uint64_t offset, uint64_t length, bool unmap) override {
    const int mode = unmap ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                           : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    return fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0
               ? 0
               : errno;
  }
  bool Locate(uint64_t, uint64_t, bool, Place*) override { return false; }
  void Release(unsigned) override {}
  void CollectFds(std::vector<int>*) const override {}
  int Map(uint64_t, uint64_t, Extent*) override { return ENOTSUP; }
  uint64_t size() const override { return size_; }
  bool read_only() const override { return false; }
  const std::string& name() const override { return name_; }

 private:
  const std::string name_;
  const int fd_;
  uint64_t size_ = 0;
};

class Table {
 public:
  Table(BlockImage& image, uint64_t blocks) : image_(image), promises_((blocks + 15) & ~15ULL) {}

  void ZeroBegins(uint64_t block, uint64_t version) {
    const std::lock_guard lock(mutex_);
    promises_[block].newest_zero = version;
    Put(block, 1);
  }
  void Flushed(const std::vector<Promise>& floors) {
    const std::lock_guard lock(mutex_);
    for (size_t b = 0; b < floors.size(); ++b) promises_[b].Merge(floors[b]);
    Put(0, promises_.size());
  }

 private:
  void Put(uint64_t first, uint64_t count) {
    constexpr uint64_t kInSector = kAligned / sizeof(Promise);
    const uint64_t start = first / kInSector * kInSector;
    const uint64_t end = (first + count + kInSector - 1) / kInSector * kInSector;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&promises_[start]);
    if (WriteAt(image_, start * sizeof(Promise), {bytes, (end - start) * sizeof(Promise)}) != 0) {
      std::perror("the table can't be written");
      std::_Exit(1);
    }
  }

  BlockImage& image_;
  std::mutex mutex_;
  std::vector<Promise> promises_;
};

}  // namespace
}  // namespace vmm

int main(int argc, char** argv) {
  if (argc != 6) return 64;
  vmm::Device disk(argv[1]), notes(argv[2]);
  const uint64_t blocks = disk.size() / vmm::NumberedDisk::kBlock;
  if (blocks == 0 || notes.size() < blocks * sizeof(vmm::Promise)) return 66;
  vmm::Table table(notes, blocks);
  vmm::NumberedDisk numbered(
      disk, {[&](uint64_t block, uint64_t version) { table.ZeroBegins(block, version); },
             [&](const auto& floors) { table.Flushed(floors); }});
  if (!numbered.Run(static_cast<unsigned>(std::atoi(argv[3])),
                    static_cast<unsigned>(std::atoi(argv[4])),
                    std::strtoull(argv[5], nullptr, 10))) {
    std::puts("an operation failed");
    return 1;
  }
  std::printf("wrote %llu blocks\n", static_cast<unsigned long long>(blocks));
  return 0;
}
