#include "vmm/snapshot/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace vmm {
namespace {

// The number is the version of the order of bytes (state_stream.h), not of any section.
constexpr std::string_view kHeader = "vmm saved machine 1\n";
constexpr std::string_view kHeaderStart = "vmm saved machine ";
constexpr int kLevel = 1;  // memory is written at the speed of a disk
constexpr size_t kBuffer = size_t{256} << 10;

std::filesystem::path FolderOf(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

struct StateFileWriter::Encoder {
  ZSTD_CStream* stream = ZSTD_createCStream();
  std::vector<uint8_t> out = std::vector<uint8_t>(kBuffer);
  ~Encoder() { ZSTD_freeCStream(stream); }
};

StateFileWriter::StateFileWriter(std::filesystem::path path) : path_(std::move(path)) {}

StateFileWriter::~StateFileWriter() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Error StateFileWriter::Failed(int error) const {
  Error failure = FailErrno(ExitCode::kIoError,
                            fmt::format("can't write the machine to {}", path_.string()), error)
                      .value();
  if (failure.code == ExitCode::kFileMissing) failure.code = ExitCode::kCannotCreate;
  return failure;
}

Result<std::unique_ptr<StateFileWriter>> StateFileWriter::Create(
    const std::filesystem::path& path) {
  std::unique_ptr<StateFileWriter> writer(new StateFileWriter(path));
  const std::filesystem::path temporary =
      FolderOf(path) / fmt::format(".{}.{}.tmp", path.filename().string(), getpid());
  unlink(temporary.c_str());  // of a process that had this number and was killed
  writer->fd_ = UniqueFd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!writer->fd_) return tl::unexpected(writer->Failed(errno));
  writer->temporary_ = temporary;
  writer->encoder_ = std::make_unique<Encoder>();
  ZSTD_CStream* const stream = writer->encoder_->stream;
  if (stream == nullptr) return tl::unexpected(writer->Failed(ENOMEM));
  ZSTD_CCtx_setParameter(stream, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(stream, ZSTD_c_checksumFlag, 1);
  if (auto wrote =
          writer->WriteOut({reinterpret_cast<const uint8_t*>(kHeader.data()), kHeader.size()});
      !wrote) {
    return tl::unexpected(std::move(wrote.error()));
  }
  return writer;
}

Result<void> StateFileWriter::WriteOut(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd_.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return tl::unexpected(Failed(errno));
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
  return {};
}

Result<void> StateFileWriter::Encode(std::span<const uint8_t> bytes, bool last) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{encoder_->out.data(), encoder_->out.size(), 0};
    const size_t left =
        ZSTD_compressStream2(encoder_->stream, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) {
      return Fail(ExitCode::kInternal,
                  fmt::format("can't compress the machine's state: {}", ZSTD_getErrorName(left)));
    }
    if (auto wrote = WriteOut({encoder_->out.data(), out.pos}); !wrote) return wrote;
    if (last ? left == 0 : in.pos == in.size) return {};
  }
}

Result<void> StateFileWriter::Write(std::span<const uint8_t> bytes) {
  return Encode(bytes, false);
}

Result<void> StateFileWriter::Commit() {
  if (auto wrote = Encode({}, true); !wrote) return wrote;
  if (fsync(fd_.get()) != 0) return tl::unexpected(Failed(errno));
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return tl::unexpected(Failed(errno));
  temporary_.clear();
  // The name, too. A file system that can't do that for folders has done what it can.
  const UniqueFd folder(open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) fsync(folder.get());
  return {};
}

struct StateFileReader::Decoder {
  ZSTD_DStream* stream = ZSTD_createDStream();
  std::vector<uint8_t> buffer = std::vector<uint8_t>(kBuffer);
  ZSTD_inBuffer in{buffer.data(), 0, 0};
  bool frame_ended = false;
  ~Decoder() { ZSTD_freeDStream(stream); }
};

StateFileReader::StateFileReader(std::filesystem::path path) : path_(std::move(path)) {}
StateFileReader::~StateFileReader() = default;

Result<std::unique_ptr<StateFileReader>> StateFileReader::Open(const std::filesystem::path& path) {
  std::unique_ptr<StateFileReader> reader(new StateFileReader(path));
  reader->fd_ = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!reader->fd_ || fstat(reader->fd_.get(), &status) != 0) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", path.string()), errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return Fail(ExitCode::kConfigInvalid, fmt::format("{} is no file", path.string()));
  }
  if (auto locked = reader->Lock(); !locked) return tl::unexpected(std::move(locked.error()));
  reader->decoder_ = std::make_unique<Decoder>();
  if (reader->decoder_->stream == nullptr) {
    return Fail(ExitCode::kHostMemory, "no memory to decompress the saved machine");
  }
  if (auto read = reader->ReadHeader(); !read) return tl::unexpected(std::move(read.error()));
  return reader;
}

// Two runs from one file would be two machines with the same disks and addresses. Whoever has the
// lock deletes the file before it lets go, so a file without a name is one that was used.
Result<void> StateFileReader::Lock() {
  const bool locked = flock(fd_.get(), LOCK_EX | LOCK_NB) == 0;
  if (!locked && errno != EWOULDBLOCK) return {};  // a file system without locks
  struct stat status{};
  if (locked && fstat(fd_.get(), &status) == 0 && status.st_nlink != 0) return {};
  return Fail(ExitCode::kUnavailable, "another run goes on from it");
}

Result<void> StateFileReader::ReadHeader() {
  std::array<char, kHeader.size()> header{};
  size_t have = 0;
  while (have < header.size()) {
    const ssize_t got = read(fd_.get(), header.data() + have, header.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", path_.string()), errno);
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  const std::string_view text(header.data(), have);
  if (text == kHeader) return {};
  return Fail(ExitCode::kConfigInvalid, text.starts_with(kHeaderStart)
                                            ? "it was written by another version of vmm"
                                            : "it is no saved machine");
}

Result<size_t> StateFileReader::Decode(std::span<uint8_t> bytes) {
  ZSTD_outBuffer out{bytes.data(), bytes.size(), 0};
  while (out.pos < out.size && !decoder_->frame_ended) {
    if (decoder_->in.pos == decoder_->in.size) {
      const ssize_t got = read(fd_.get(), decoder_->buffer.data(), decoder_->buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", path_.string()), errno);
      if (got == 0) return Fail(ExitCode::kConfigInvalid, "it is damaged: its end is missing");
      decoder_->in.size = static_cast<size_t>(got);
      decoder_->in.pos = 0;
    }
    const size_t left = ZSTD_decompressStream(decoder_->stream, &out, &decoder_->in);
    if (ZSTD_isError(left)) {
      return Fail(ExitCode::kConfigInvalid,
                  fmt::format("it is damaged ({})", ZSTD_getErrorName(left)));
    }
    decoder_->frame_ended = left == 0;
  }
  return out.pos;
}

Result<void> StateFileReader::Read(std::span<uint8_t> bytes) {
  auto got = Decode(bytes);
  if (!got) return tl::unexpected(std::move(got.error()));
  if (*got == bytes.size()) return {};
  return Fail(ExitCode::kConfigInvalid, "it is damaged: its end is missing");
}

Result<void> StateFileReader::Finish() {
  std::array<uint8_t, 1> more;
  auto got = Decode(more);
  if (!got) return tl::unexpected(std::move(got.error()));
  const bool file_ended =
      decoder_->in.pos == decoder_->in.size && read(fd_.get(), more.data(), 1) == 0;
  if (*got == 0 && decoder_->frame_ended && file_ended) return {};
  return Fail(ExitCode::kConfigInvalid, "it is damaged: something follows its end");
}

}  // namespace vmm
