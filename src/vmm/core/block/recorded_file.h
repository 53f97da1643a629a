// Remembers every write and sync that reaches a file, so that a test can make up what a loss of
// power would have left.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "vmm/core/block/block_file.h"

namespace vmm {

struct FileEvent {
  enum class Kind : uint8_t {
    kWrite,   // `bytes` at `offset`
    kZero,    // `length` zeros at `offset`, nothing behind the file's end
    kResize,  // to `offset`
    kSync,    // sync number `offset` begins
    kSynced,  // and is over: what came before its beginning is durable
    kNote,    // what a test has to say: `bytes` at `offset`
  };
  Kind kind;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::vector<uint8_t> bytes;
};

// Any thread. An event stands in the record before its call returns.
class FileRecord {
 public:
  void Add(FileEvent event);
  std::vector<FileEvent> Take();
  uint64_t NextSync();

 private:
  std::mutex mutex_;  // a leaf
  std::vector<FileEvent> events_;
  uint64_t syncs_ = 0;
};

class RecordedFile final : public BlockFile {
 public:
  // `record` outlives this. `is_of_notes`: its writes are notes about other files, with `offset`
  // and `bytes`, and nothing else of it is remembered.
  RecordedFile(std::unique_ptr<BlockFile> file, FileRecord& record, bool is_of_notes = false)
      : file_(std::move(file)), record_(record), is_of_notes_(is_of_notes) {}

  int Read(uint64_t offset, std::span<const iovec> to) override;
  int Write(uint64_t offset, std::span<const iovec> from) override;
  int Sync() override;
  int Resize(uint64_t bytes) override;
  int Zero(uint64_t offset, uint64_t length, bool unmap) override;
  int Reserve(uint64_t offset, uint64_t length) override;
  uint64_t size() const override { return file_->size(); }
  uint64_t allocated() const override { return file_->allocated(); }
  const std::string& name() const override { return file_->name(); }

 private:
  const std::unique_ptr<BlockFile> file_;
  FileRecord& record_;
  const bool is_of_notes_;
};

}  // namespace vmm
