#include "vmm/snapshot/state_stream.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "vmm/core/base/bytes.h"

namespace vmm {
namespace {

template <class T>
Result<void> WriteNumber(ByteSink& sink, T value) {
  std::array<uint8_t, sizeof(T)> bytes;
  StoreLittleEndian(bytes, value);
  return sink.Write(bytes);
}

template <class T>
Result<T> ReadNumber(ByteSource& source) {
  std::array<uint8_t, sizeof(T)> bytes;
  if (auto read = source.Read(bytes); !read) return tl::unexpected(std::move(read.error()));
  return static_cast<T>(LoadLittleEndian(bytes));
}

tl::unexpected<Error> Damaged(std::string_view what) {
  return Fail(ExitCode::kConfigInvalid, "it is damaged: " + std::string(what));
}

bool IsZero(const uint8_t* page) {
  uint64_t all = 0;
  for (size_t i = 0; i < kPageSize; i += 64) {
    std::array<uint64_t, 8> words;
    std::memcpy(words.data(), page + i, sizeof words);
    for (const uint64_t word : words) all |= word;
    if (all != 0) return false;
  }
  return true;
}

const uint8_t* HostOf(const GuestMemory& memory, uint64_t offset) {
  for (const RamRegion& region : memory.regions()) {
    if (offset - region.file_offset < region.size)
      return region.host + (offset - region.file_offset);
  }
  return nullptr;
}

Result<void> WriteRun(const GuestMemory& memory, uint64_t begin, uint64_t end, ByteSink& sink) {
  // A run may cross from one region into the next.
  while (begin < end) {
    uint64_t stop = end;
    for (const RamRegion& region : memory.regions()) {
      const uint64_t region_end = region.file_offset + region.size;
      if (begin < region_end) stop = std::min(stop, std::max(region_end, begin));
      if (begin < region_end) break;
    }
    if (auto wrote = WriteNumber(sink, begin); !wrote) return wrote;
    if (auto wrote = WriteNumber(sink, stop - begin); !wrote) return wrote;
    if (auto wrote = sink.Write({HostOf(memory, begin), stop - begin}); !wrote) return wrote;
    begin = stop;
  }
  return {};
}

// The pages of [begin, end) that hold anything, as runs.
Result<void> WriteRange(const GuestMemory& memory, uint64_t begin, uint64_t end, ByteSink& sink) {
  uint64_t run = begin;
  for (uint64_t at = begin; at < end; at += kPageSize) {
    if (!IsZero(HostOf(memory, at))) continue;
    if (auto wrote = WriteRun(memory, run, at, sink); !wrote) return wrote;
    run = at + kPageSize;
  }
  return WriteRun(memory, run, end, sink);
}

}  // namespace

Result<void> WriteSections(const Sections& sections, ByteSink& sink) {
  for (const Section& section : sections.list()) {
    const auto* name = reinterpret_cast<const uint8_t*>(section.name.data());
    auto wrote = WriteNumber(sink, static_cast<uint8_t>(section.name.size()))
                     .and_then([&] { return sink.Write({name, section.name.size()}); })
                     .and_then([&] { return WriteNumber(sink, section.version); })
                     .and_then([&] { return WriteNumber(sink, uint64_t{section.bytes.size()}); })
                     .and_then([&] { return sink.Write(section.bytes); });
    if (!wrote) return wrote;
  }
  return WriteNumber(sink, uint8_t{0});
}

Result<Sections> ReadSections(ByteSource& source) {
  Sections sections;
  for (;;) {
    auto name_length = ReadNumber<uint8_t>(source);
    if (!name_length) return tl::unexpected(std::move(name_length.error()));
    if (*name_length == 0) return sections;
    if (*name_length > Sections::kMaxName || sections.list().size() == Sections::kMaxCount) {
      return Damaged("the list of its sections");
    }
    std::string name(*name_length, '\0');
    if (auto read = source.Read({reinterpret_cast<uint8_t*>(name.data()), name.size()}); !read) {
      return tl::unexpected(std::move(read.error()));
    }
    const bool printable =
        std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
    const bool twice = std::any_of(sections.list().begin(), sections.list().end(),
                                   [&](const Section& section) { return section.name == name; });
    if (!printable || twice) return Damaged("the names of its sections");
    auto version = ReadNumber<uint32_t>(source);
    if (!version) return tl::unexpected(std::move(version.error()));
    auto length = ReadNumber<uint64_t>(source);
    if (!length) return tl::unexpected(std::move(length.error()));
    if (*length > Sections::kMaxBytes) return Damaged("the length of " + name);
    std::vector<uint8_t> bytes(*length);
    if (auto read = source.Read(bytes); !read) return tl::unexpected(std::move(read.error()));
    sections.PutBytes(name, *version, std::move(bytes));
  }
}

Result<void> WriteMemory(const GuestMemory& memory, ByteSink& sink) {
  if (auto wrote = WriteNumber(sink, memory.size()); !wrote) return wrote;
  const auto size = static_cast<off_t>(memory.size());
  for (off_t at = 0; at < size;) {
    const off_t data = lseek(memory.fd(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // nothing but holes
    if (data < 0) return FailErrno(ExitCode::kIoError, "looking for used guest memory", errno);
    off_t hole = lseek(memory.fd(), data, SEEK_HOLE);
    if (hole < 0) return FailErrno(ExitCode::kIoError, "looking for used guest memory", errno);
    hole = std::min(hole, size);
    if (auto wrote =
            WriteRange(memory, static_cast<uint64_t>(data), static_cast<uint64_t>(hole), sink);
        !wrote) {
      return wrote;
    }
    at = hole;
  }
  if (auto wrote = WriteNumber(sink, uint64_t{0}); !wrote) return wrote;
  return WriteNumber(sink, uint64_t{0});
}

Result<void> ReadMemory(ByteSource& source, const GuestMemory& memory) {
  auto size = ReadNumber<uint64_t>(source);
  if (!size) return tl::unexpected(std::move(size.error()));
  if (*size != memory.size()) return Damaged("the size of its memory");
  for (uint64_t least = 0;;) {
    auto offset = ReadNumber<uint64_t>(source);
    if (!offset) return tl::unexpected(std::move(offset.error()));
    auto length = ReadNumber<uint64_t>(source);
    if (!length) return tl::unexpected(std::move(length.error()));
    if (*offset == 0 && *length == 0) return {};
    const bool whole_pages = *offset % kPageSize == 0 && *length % kPageSize == 0;
    if (!whole_pages || *length == 0 || *offset < least || *offset >= *size ||
        *length > *size - *offset) {
      return Damaged("a place in its memory");
    }
    least = *offset + *length;
    for (uint64_t at = *offset; at < least;) {
      for (const RamRegion& region : memory.regions()) {
        const uint64_t inside = at - region.file_offset;
        if (inside >= region.size) continue;
        const uint64_t part = std::min(least - at, region.size - inside);
        if (auto read = source.Read({region.host + inside, part}); !read) return read;
        at += part;
        break;
      }
    }
  }
}

}  // namespace vmm
