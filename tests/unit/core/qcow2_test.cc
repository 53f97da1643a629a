#include <catch2/catch.hpp>
#include <random>

#include "tests/support/memory_file.h"
#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/qcow2_check.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/raw_image.h"

namespace vmm {
namespace {

struct Made {
  std::unique_ptr<Qcow2Image> image;
  MemoryFile* file = nullptr;  // the image's
};

Made Reopen(std::vector<uint8_t> bytes, std::unique_ptr<BlockImage> backing = nullptr,
            bool writable = true) {
  auto file = std::make_unique<MemoryFile>(std::move(bytes));
  MemoryFile* raw = file.get();
  auto header = Qcow2Image::ReadHeader(*file);
  REQUIRE(header);
  auto image = Qcow2Image::Open(std::move(file), *header, std::move(backing), writable);
  REQUIRE(image);
  return {std::move(*image), raw};
}

Made Make(Qcow2Header header, std::unique_ptr<BlockImage> backing = nullptr) {
  MemoryFile file;
  REQUIRE(CreateQcow2(file, header) == 0);
  return Reopen(file.bytes(), std::move(backing));
}

Qcow2Header Header(uint64_t size, unsigned cluster_bits = 16) {
  Qcow2Header header;
  header.size = size;
  header.cluster_bits = cluster_bits;
  return header;
}

std::vector<uint8_t> Bytes(uint64_t length, uint8_t value) {
  return std::vector<uint8_t>(length, value);
}

std::vector<uint8_t> ReadBack(BlockImage& image, uint64_t offset, uint64_t length) {
  std::vector<uint8_t> bytes(length, 0xEE);
  REQUIRE(ReadAt(image, offset, bytes) == 0);
  return bytes;
}

// As the file is after the image was closed.
std::vector<uint8_t> Close(Made made) {
  REQUIRE(made.image->Flush() == 0);
  REQUIRE(made.image->Flush() == 0);
  return made.file->bytes();
}

void CheckClean(std::vector<uint8_t> bytes) {
  MemoryFile file(std::move(bytes));
  const auto report = CheckQcow2(file);
  REQUIRE(report);
  CAPTURE(report->messages);
  CHECK(report->corruptions == 0);
  CHECK(report->leaks == 0);
}

std::unique_ptr<BlockImage> Backing(uint64_t size, uint8_t value) {
  return std::make_unique<RawImage>(std::make_unique<MemoryFile>(Bytes(size, value)), true, false);
}

}  // namespace

TEST_CASE("a write shows after the image was opened anew", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 70000, Bytes(100000, 7)) == 0);
  Made again = Reopen(Close(std::move(made)));
  CHECK(ReadBack(*again.image, 70000, 100000) == Bytes(100000, 7));
  CHECK(IsZero(ReadBack(*again.image, 0, 70000)));
  CHECK(IsZero(ReadBack(*again.image, 170000, 1000)));
  CheckClean(Close(std::move(again)));
}

TEST_CASE("a write to part of a cluster keeps what the backing image has in the rest", "[block]") {
  Made made = Make(Header(1 << 20), Backing(100 * 1024, 3));
  REQUIRE(WriteAt(*made.image, 65536 + 512, Bytes(512, 9)) == 0);
  CHECK(ReadBack(*made.image, 65536, 512) == Bytes(512, 3));
  CHECK(ReadBack(*made.image, 65536 + 512, 512) == Bytes(512, 9));
  CHECK(ReadBack(*made.image, 100 * 1024 - 512, 512) == Bytes(512, 3));
  CHECK(IsZero(ReadBack(*made.image, 100 * 1024, 512)));
}

TEST_CASE("a discard hides the backing image", "[block]") {
  Made made = Make(Header(1 << 20), Backing(1 << 20, 3));
  REQUIRE(made.image->Discard(65536, 65536) == 0);
  CHECK(IsZero(ReadBack(*made.image, 65536, 65536)));
  CHECK(ReadBack(*made.image, 0, 65536) == Bytes(65536, 3));
}

TEST_CASE("a discarded cluster is used again only after a flush", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 0, Bytes(65536, 1)) == 0);
  REQUIRE(made.image->Flush() == 0);
  const uint64_t before = made.file->size();
  REQUIRE(made.image->Discard(0, 65536) == 0);
  REQUIRE(WriteAt(*made.image, 65536, Bytes(65536, 2)) == 0);
  CHECK(made.file->size() > before);
  REQUIRE(made.image->Flush() == 0);
  const uint64_t after = made.file->size();
  REQUIRE(WriteAt(*made.image, 131072, Bytes(65536, 3)) == 0);
  CHECK(made.file->size() == after);
  CheckClean(Close(std::move(made)));
}

TEST_CASE("flush syncs, and twice when the mapping has changed", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 0, Bytes(512, 1)) == 0);
  const int before = made.file->syncs;
  REQUIRE(made.image->Flush() == 0);
  CHECK(made.file->syncs == before + 2);
  REQUIRE(WriteAt(*made.image, 0, Bytes(512, 2)) == 0);
  REQUIRE(made.image->Flush() == 0);
  CHECK(made.file->syncs == before + 3);
}

TEST_CASE("after a failed sync no flush is called a success", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 0, Bytes(512, 1)) == 0);
  made.file->sync_error = EIO;
  CHECK(made.image->Flush() == EIO);
  made.file->sync_error = 0;
  CHECK(made.image->Flush() == EIO);
  CHECK(WriteAt(*made.image, 0, Bytes(512, 1)) == EIO);
}

TEST_CASE("the refcount table grows, moves and leaves nothing behind", "[block]") {
  // Blocks of 256 counts, a table of 64 blocks: 8 MiB of clusters.
  Made made = Make(Header(24 << 20, 9));
  for (uint64_t at = 0; at < 24 << 20; at += 1 << 20) {
    REQUIRE(WriteAt(*made.image, at, Bytes(1 << 20, static_cast<uint8_t>(1 + at / 99999))) == 0);
    if (at % (5 << 20) == 0) REQUIRE(made.image->Flush() == 0);
  }
  // What the old table leaves is used for data, which is no table any more.
  REQUIRE(made.image->Flush() == 0);
  REQUIRE(made.image->Discard(0, 4 << 20) == 0);
  REQUIRE(made.image->Flush() == 0);
  REQUIRE(WriteAt(*made.image, 0, Bytes(4 << 20, 0x44)) == 0);
  REQUIRE(WriteAt(*made.image, 0, Bytes(4 << 20, 0x45)) == 0);
  Made again = Reopen(Close(std::move(made)));
  CHECK(ReadBack(*again.image, 0, 4 << 20) == Bytes(4 << 20, 0x45));
  CHECK(ReadBack(*again.image, 23 << 20, 512) == Bytes(512, 1 + (23 << 20) / 99999));
  CheckClean(Close(std::move(again)));
}

TEST_CASE("a full file is an error of that write alone", "[block]") {
  MemoryFile empty;
  REQUIRE(CreateQcow2(empty, Header(4 << 20)) == 0);
  auto file = std::make_unique<MemoryFile>(empty.bytes(), 1 << 20);
  MemoryFile* raw = file.get();
  auto header = Qcow2Image::ReadHeader(*file);
  auto image = std::move(*Qcow2Image::Open(std::move(file), *header, nullptr, true));
  REQUIRE(WriteAt(*image, 0, Bytes(65536, 1)) == 0);
  CHECK(WriteAt(*image, 65536, Bytes(2 << 20, 2)) == ENOSPC);
  CHECK(ReadBack(*image, 0, 65536) == Bytes(65536, 1));
  REQUIRE(image->Flush() == 0);
  REQUIRE(image->Flush() == 0);
  CheckClean(raw->bytes());
}

TEST_CASE("compressed clusters are read, overwritten and freed", "[block]") {
  const auto compression =
      GENERATE(Qcow2Header::Compression::kZlib, Qcow2Header::Compression::kZstd);
  Qcow2Header header = Header(1 << 20);
  header.compression = compression;
  Made made = Make(header);
  for (uint64_t at = 0; at < 1 << 20; at += 65536) {
    std::vector<uint8_t> cluster(65536);
    for (size_t i = 0; i < cluster.size(); ++i) cluster[i] = static_cast<uint8_t>(i / 64 + at / 7);
    REQUIRE(made.image->WriteCompressed(at, cluster) == 0);
  }
  CHECK(made.file->size() < 1 << 19);
  made = Reopen(Close(std::move(made)));
  CHECK(ReadBack(*made.image, 65536 + 640, 1)[0] == static_cast<uint8_t>(10 + 65536 / 7));
  REQUIRE(WriteAt(*made.image, 65536, Bytes(512, 0xAA)) == 0);
  CHECK(ReadBack(*made.image, 65536 + 640, 1)[0] == static_cast<uint8_t>(10 + 65536 / 7));
  REQUIRE(made.image->Discard(0, 1 << 20) == 0);
  CheckClean(Close(std::move(made)));
}

TEST_CASE("data that lies in a table is never written", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 0, Bytes(512, 1)) == 0);
  std::vector<uint8_t> bytes = Close(std::move(made));
  // The first L2 entry leads to the L1 table.
  const uint64_t l1 = LoadBigEndian<uint64_t>(&bytes[40]);
  const uint64_t l2 = LoadBigEndian<uint64_t>(&bytes[l1]) & Qcow2Image::kOffsetMask;
  StoreBigEndian(&bytes[l2], l1 | Qcow2Image::kCopied);
  Made hostile = Reopen(bytes);
  CHECK(WriteAt(*hostile.image, 0, Bytes(512, 1)) == EIO);
  CHECK(hostile.image->problem().find("lies in a table") != std::string::npos);
  CHECK(WriteAt(*hostile.image, 500000, Bytes(512, 1)) == EIO);
  // [QCOW2] Header, bit 1 of the incompatible features: the image is marked.
  CHECK((hostile.file->bytes()[79] & Qcow2Header::kCorrupt) != 0);
  MemoryFile file(hostile.file->bytes());
  CHECK(CheckQcow2(file)->unmendable != 0);
}

TEST_CASE("two tables in one place, or one counted as free, are refused for writing", "[block]") {
  Made made = Make(Header(1 << 20));
  REQUIRE(WriteAt(*made.image, 0, Bytes(512, 1)) == 0);
  std::vector<uint8_t> bytes = Close(std::move(made));
  const uint64_t l1 = LoadBigEndian<uint64_t>(&bytes[40]);
  const auto open = [&](std::vector<uint8_t> changed) {
    auto file = std::make_unique<MemoryFile>(std::move(changed));
    auto header = Qcow2Image::ReadHeader(*file);
    REQUIRE(header);
    return Qcow2Image::Open(std::move(file), *header, nullptr, true);
  };
  std::vector<uint8_t> twice = bytes;
  StoreBigEndian(&twice[l1], l1 | Qcow2Image::kCopied);
  CHECK(open(twice).error().code == ExitCode::kImageCorrupt);
  std::vector<uint8_t> free = bytes;
  StoreBigEndian(&free[131072 + 2 * (l1 / 65536)], uint16_t{0});
  CHECK(open(free).error().message.find("counted as free") != std::string::npos);
}

TEST_CASE("a raw image of unknown format can't become another", "[block]") {
  RawImage image(std::make_unique<MemoryFile>(Bytes(4096, 0)), false, true);
  const std::vector<uint8_t> start = {'Q', 'F', 'I', 0xFB};
  CHECK(WriteAt(image, 0, start) == EPERM);
  CHECK(WriteAt(image, 0, std::span(start).first(2)) == 0);
  CHECK(WriteAt(image, 2, std::span(start).subspan(2)) == EPERM);
  CHECK(WriteAt(image, 512, start) == 0);
}

TEST_CASE("an image as large as its tables allow costs no more than they do", "[block]") {
  MemoryFile file;
  CHECK(CreateQcow2(file, Header(uint64_t{1} << 62)) == EFBIG);
  Made made = Make(Header(uint64_t{1} << 40));
  REQUIRE(WriteAt(*made.image, (uint64_t{1} << 40) - 512, Bytes(512, 5)) == 0);
  CHECK(made.file->size() < 1 << 20);
  CheckClean(Close(std::move(made)));
}

TEST_CASE("resizing keeps what is left and shows zeros behind it", "[block]") {
  Made made = Make(Header(1 << 20, 9));
  REQUIRE(WriteAt(*made.image, 0, Bytes(1 << 20, 6)) == 0);
  REQUIRE(made.image->Resize(uint64_t{1} << 30) == 0);
  CHECK(ReadBack(*made.image, (1 << 20) - 512, 512) == Bytes(512, 6));
  CHECK(IsZero(ReadBack(*made.image, 1 << 20, 4096)));
  REQUIRE(made.image->Resize(1024) == 0);
  REQUIRE(made.image->Resize(4096) == 0);
  CHECK(ReadBack(*made.image, 0, 1024) == Bytes(1024, 6));
  CHECK(IsZero(ReadBack(*made.image, 1024, 3072)));
  CheckClean(Close(std::move(made)));
}

}  // namespace vmm
