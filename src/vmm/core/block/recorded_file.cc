#include "vmm/core/block/recorded_file.h"

#include "vmm/core/block/io_buffers.h"

namespace vmm {

using Kind = FileEvent::Kind;

void FileRecord::Add(FileEvent event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
}

std::vector<FileEvent> FileRecord::Take() {
  const std::lock_guard lock(mutex_);
  return std::move(events_);
}

uint64_t FileRecord::NextSync() {
  const std::lock_guard lock(mutex_);
  return ++syncs_;
}

int RecordedFile::Read(uint64_t offset, std::span<const iovec> to) {
  return file_->Read(offset, to);
}

int RecordedFile::Write(uint64_t offset, std::span<const iovec> from) {
  std::vector<uint8_t> bytes = CopyOf(from);
  const int error = WriteAt(*file_, offset, bytes);
  const Kind kind = is_of_notes_ ? Kind::kNote : Kind::kWrite;
  if (error == 0) record_.Add({kind, offset, bytes.size(), std::move(bytes)});
  return error;
}

int RecordedFile::Sync() {
  if (is_of_notes_) return file_->Sync();
  const uint64_t number = record_.NextSync();
  record_.Add({Kind::kSync, number, 0, {}});
  const int error = file_->Sync();
  if (error == 0) record_.Add({Kind::kSynced, number, 0, {}});
  return error;
}

int RecordedFile::Resize(uint64_t bytes) {
  const int error = file_->Resize(bytes);
  if (error == 0 && !is_of_notes_) record_.Add({Kind::kResize, bytes, 0, {}});
  return error;
}

int RecordedFile::Zero(uint64_t offset, uint64_t length, bool unmap) {
  const int error = file_->Zero(offset, length, unmap);
  if (error == 0 && !is_of_notes_) record_.Add({Kind::kZero, offset, length, {}});
  return error;
}

int RecordedFile::Reserve(uint64_t offset, uint64_t length) {
  const int error = file_->Reserve(offset, length);
  if (error == 0 && !is_of_notes_ && file_->size() >= offset + length) {
    record_.Add({Kind::kResize, file_->size(), 0, {}});
  }
  return error;
}

}  // namespace vmm
