#include "vmm/core/block/raw_image.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vmm/core/block/qcow2_header.h"

namespace vmm {

RawImage::RawImage(std::unique_ptr<BlockFile> file, bool read_only, bool guessed)
    : file_(std::move(file)),
      read_only_(read_only),
      guessed_(guessed),
      size_((file_->size() + 511) / 512 * 512) {}

int RawImage::Read(uint64_t offset, IoBuffers to) {
  if (!Has(offset, TotalLength(to))) return EINVAL;
  return file_->Read(offset, to);
}

int RawImage::Write(uint64_t offset, IoBuffers from) {
  if (read_only_) return EROFS;
  if (!Has(offset, TotalLength(from))) return EINVAL;
  if (guessed_ && offset < 4) {
    // As the file would begin then; read once, so that it is what is written.
    std::vector<uint8_t> bytes = CopyOf(from);
    std::vector<uint8_t> start(4);
    if (const int error = ReadAt(*file_, 0, start)) return error;
    std::copy_n(bytes.begin(), std::min<size_t>(bytes.size(), 4 - offset),
                start.begin() + static_cast<ptrdiff_t>(offset));
    if (Qcow2Header::IsQcow2(start)) return EPERM;
    return WriteAt(*file_, offset, bytes);
  }
  return file_->Write(offset, from);
}

int RawImage::Flush() {
  return read_only_ ? 0 : file_->Sync();
}

int RawImage::Discard(uint64_t offset, uint64_t length) {
  return WriteZeroes(offset, length, true);
}

int RawImage::WriteZeroes(uint64_t offset, uint64_t length, bool unmap) {
  if (read_only_) return EROFS;
  if (!Has(offset, length)) return EINVAL;
  return file_->Zero(offset, length, unmap);
}

bool RawImage::Locate(uint64_t offset, uint64_t length, bool for_write, Place* place) {
  // The last sector may lie only partly in the file.
  const int fd = file_->fd();
  if (fd < 0 || !Has(offset, length) || (for_write && (read_only_ || (guessed_ && offset < 4)))) {
    return false;
  }
  *place = {fd, offset, 0, this};
  return true;
}

void RawImage::CollectFds(std::vector<int>* fds) const {
  if (file_->fd() >= 0) fds->push_back(file_->fd());
}

int RawImage::Map(uint64_t offset, uint64_t length, Extent* extent) {
  if (!Has(offset, length)) return EINVAL;
  *extent = {Holder::kData, length, 0, false};
  const int fd = file_->fd();
  if (fd < 0) return 0;
  const off_t data = lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) extent->holder = Holder::kZero;  // a hole up to the end
    return 0;
  }
  if (static_cast<uint64_t>(data) > offset) {
    extent->holder = Holder::kZero;
    extent->length = std::min(length, static_cast<uint64_t>(data) - offset);
    return 0;
  }
  const off_t hole = lseek(fd, data, SEEK_HOLE);
  if (hole > data) extent->length = std::min(length, static_cast<uint64_t>(hole) - offset);
  return 0;
}

}  // namespace vmm
