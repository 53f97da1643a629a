// A disk that lies in its file byte by byte.
#pragma once

#include <memory>

#include "vmm/core/block/block_image.h"

namespace vmm {

class RawImage final : public BlockImage {
 public:
  // `guessed`: nobody said that the file is raw. Then the guest may not make it begin like another
  // format: the next guess would believe it, and the file could name any file of the host.
  RawImage(std::unique_ptr<BlockFile> file, bool read_only, bool guessed);

  int Read(uint64_t offset, IoBuffers to) override;
  int Write(uint64_t offset, IoBuffers from) override;
  int Flush() override;
  int Discard(uint64_t offset, uint64_t length) override;
  int WriteZeroes(uint64_t offset, uint64_t length, bool unmap) override;
  bool Locate(uint64_t offset, uint64_t length, bool for_write, Place* place) override;
  void Release(unsigned) override {}
  void CollectFds(std::vector<int>* fds) const override;
  int Map(uint64_t offset, uint64_t length, Extent* extent) override;
  uint64_t size() const override { return size_; }
  bool read_only() const override { return read_only_; }
  const std::string& name() const override { return file_->name(); }

  BlockFile& file() { return *file_; }

 private:
  bool Has(uint64_t offset, uint64_t length) const {
    return offset <= size_ && length <= size_ - offset;
  }

  const std::unique_ptr<BlockFile> file_;
  const bool read_only_;
  const bool guessed_;
  const uint64_t size_;
};

}  // namespace vmm
