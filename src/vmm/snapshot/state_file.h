// A saved machine as one file: a line that says what it is, then one zstd frame, whose own checksum
// covers all of it. Written beside its place and put there in one step.
#pragma once

#include <filesystem>
#include <memory>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/snapshot/state_stream.h"

namespace vmm {

// Threads: one at a time.
class StateFileWriter final : public ByteSink {
 public:
  // A temporary file in the same folder, readable by its owner alone: it holds the guest's memory.
  // What stands at `path` stays until Commit().
  static Result<std::unique_ptr<StateFileWriter>> Create(const std::filesystem::path& path);
  ~StateFileWriter() override;  // without Commit(): as if nothing had been

  Result<void> Write(std::span<const uint8_t> bytes) override;
  // Everything is on the disk, then takes the place of what was there.
  Result<void> Commit();

 private:
  struct Encoder;
  explicit StateFileWriter(std::filesystem::path path);
  Result<void> Encode(std::span<const uint8_t> bytes, bool last);
  Result<void> WriteOut(std::span<const uint8_t> bytes);
  Error Failed(int error) const;

  const std::filesystem::path path_;
  std::filesystem::path temporary_;
  UniqueFd fd_;
  std::unique_ptr<Encoder> encoder_;
};

class StateFileReader final : public ByteSource {
 public:
  // kFileMissing when there is none; kConfigInvalid when it is no saved machine or one of a newer
  // vmm.
  static Result<std::unique_ptr<StateFileReader>> Open(const std::filesystem::path& path);
  ~StateFileReader() override;

  Result<void> Read(std::span<uint8_t> bytes) override;
  // Nothing follows, and the checksum was right. Until then nothing that was read is certain.
  Result<void> Finish();

 private:
  struct Decoder;
  explicit StateFileReader(std::filesystem::path path);
  // Up to bytes.size(); 0: the frame has ended well.
  Result<size_t> Decode(std::span<uint8_t> bytes);
  Result<void> Lock();
  Result<void> ReadHeader();

  const std::filesystem::path path_;
  UniqueFd fd_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace vmm
