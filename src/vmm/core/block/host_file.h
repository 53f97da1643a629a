// A file or block device of the host.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <memory>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_file.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

class HostFile final : public BlockFile {
 public:
  struct Options {
    bool writable = false;
    bool direct = false;  // past the host's page cache, where length and place allow it
    bool lock = true;     // image_lock.h
  };
  // Error: kFileMissing, kNoPermission, kIoError, kImageLocked.
  static Result<std::unique_ptr<HostFile>> Open(const std::filesystem::path& path,
                                                const Options& options);
  // A new, empty file, locked for writing. What is there already is an error unless `replace`;
  // then it is emptied. Error: kCannotCreate, kNoPermission, kImageLocked.
  static Result<std::unique_ptr<HostFile>> Create(const std::filesystem::path& path, bool replace);
  // A file without a name, in `directory`; gone with its descriptor.
  static Result<std::unique_ptr<HostFile>> Temporary(const std::filesystem::path& directory);

  ~HostFile() override;

  int Read(uint64_t offset, std::span<const iovec> to) override;
  int Write(uint64_t offset, std::span<const iovec> from) override;
  int Sync() override;
  int Resize(uint64_t bytes) override;
  int Zero(uint64_t offset, uint64_t length, bool unmap) override;
  int Reserve(uint64_t offset, uint64_t length) override;
  uint64_t size() const override { return size_; }
  uint64_t allocated() const override;
  const std::string& name() const override { return name_; }
  int fd() const override { return direct_ ? -1 : fd_.get(); }

  // Which file it is, whatever its name.
  bool IsSameFile(const HostFile& other) const;

 private:
  HostFile(UniqueFd fd, std::string name);
  Result<void> ReadFacts();
  void GrowTo(uint64_t bytes);
  int fd_for(uint64_t offset, std::span<const iovec> buffers) const;

  const UniqueFd fd_;
  UniqueFd direct_;  // the same file with O_DIRECT, for aligned transfers
  const std::string name_;
  std::atomic<uint64_t> size_ = 0;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool is_regular_ = true;
};

}  // namespace vmm
