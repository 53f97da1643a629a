#include "vmm/boot/elf_image.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/boot/bytes.h"

namespace vmm {
namespace {

constexpr unsigned kMaxProgramHeaders = 128;
constexpr uint64_t kMaxNoteBytes = 64 * kKiB;

// [PVH] "Starting a PVH guest": the note that a kernel carries.
constexpr uint32_t kXenPhys32Entry = 18;
constexpr char kXenName[] = "Xen";

struct Elf32 {
  using Header = Elf32_Ehdr;
  using ProgramHeader = Elf32_Phdr;
};
struct Elf64 {
  using Header = Elf64_Ehdr;
  using ProgramHeader = Elf64_Phdr;
};

template <class Struct>
Result<Struct> ReadStruct(const BootFile& file, uint64_t offset) {
  Struct value;
  auto read = file.Read(offset, {reinterpret_cast<uint8_t*>(&value), sizeof(value)});
  if (!read) return tl::unexpected(read.error());
  return value;
}

// [PVH]; the form of a note: [ELF] "Note Section". Notes of a segment aligned to 8 are padded to 8.
std::optional<uint64_t> FindPvhEntry(std::span<const uint8_t> notes, uint64_t alignment) {
  constexpr uint64_t kNoteHeader = 12;
  const uint64_t pad = alignment == 8 ? 8 : 4;
  uint64_t offset = 0;
  while (notes.size() - offset >= kNoteHeader) {
    const uint64_t name_size = Get<uint32_t>(notes, offset);
    const uint64_t value_size = Get<uint32_t>(notes, offset + 4);
    const uint32_t type = Get<uint32_t>(notes, offset + 8);
    const uint64_t name = offset + kNoteHeader;
    const uint64_t value = offset + AlignUp(kNoteHeader + name_size, pad);
    const uint64_t next = value + AlignUp(value_size, pad);
    if (value > notes.size() || value_size > notes.size() - value) return std::nullopt;
    if (type == kXenPhys32Entry && name_size == sizeof(kXenName) &&
        std::memcmp(notes.data() + name, kXenName, sizeof(kXenName)) == 0) {
      if (value_size == 4) return Get<uint32_t>(notes, value);
      if (value_size == 8) return Get<uint64_t>(notes, value);
      return std::nullopt;
    }
    if (next > notes.size()) return std::nullopt;
    offset = next;
  }
  return std::nullopt;
}

template <class ProgramHeader>
Result<void> AddSegment(const BootFile& file, const ProgramHeader& header, unsigned index,
                        ElfImage& image) {
  if (header.p_type != PT_LOAD && header.p_type != PT_NOTE) return {};
  if (header.p_offset > file.size() || header.p_filesz > file.size() - header.p_offset) {
    return file.Invalid(
        fmt::format("truncated: segment {} needs {} bytes at offset {}, the file has {}", index,
                    uint64_t{header.p_filesz}, uint64_t{header.p_offset}, file.size()));
  }
  image.file_end = std::max<uint64_t>(image.file_end, header.p_offset + header.p_filesz);
  if (header.p_type == PT_NOTE) {
    std::vector<uint8_t> notes(std::min<uint64_t>(header.p_filesz, kMaxNoteBytes));
    if (auto read = file.Read(header.p_offset, notes); !read) return read;
    if (!image.pvh_entry) image.pvh_entry = FindPvhEntry(notes, header.p_align);
    return {};
  }
  if (header.p_memsz < header.p_filesz) {
    return file.Invalid(
        fmt::format("malformed: segment {} is larger in the file than in memory", index));
  }
  if (header.p_memsz != 0) {
    image.segments.push_back({.offset = header.p_offset,
                              .file_size = header.p_filesz,
                              .address = header.p_paddr,
                              .virtual_address = header.p_vaddr,
                              .memory_size = header.p_memsz});
  }
  return {};
}

template <class Class>
Result<ElfImage> Parse(const BootFile& file) {
  auto header = ReadStruct<typename Class::Header>(file, 0);
  if (!header) return file.Invalid("truncated inside the ELF header");
  if (header->e_machine != EM_386 && header->e_machine != EM_X86_64) {
    return file.Invalid(
        fmt::format("is an ELF file for another processor (machine {})", header->e_machine));
  }
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
    return file.Invalid(fmt::format("is an ELF file, but no executable (type {})", header->e_type));
  }
  if (header->e_phnum == 0 || header->e_phnum > kMaxProgramHeaders ||
      header->e_phentsize != sizeof(typename Class::ProgramHeader)) {
    return file.Invalid(fmt::format("malformed: {} program headers of {} bytes", header->e_phnum,
                                    header->e_phentsize));
  }
  ElfImage image;
  image.is_64 = header->e_ident[EI_CLASS] == ELFCLASS64;
  image.entry = header->e_entry;
  const uint64_t sections = uint64_t{header->e_shnum} * header->e_shentsize;
  if (header->e_shoff <= file.size() && sections <= file.size() - header->e_shoff) {
    image.file_end = header->e_shoff + sections;  // what is cut off there, nothing here needs
  }
  const uint64_t table = header->e_phoff;
  if (table > file.size()) return file.Invalid("truncated: the program headers are past its end");
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    auto program = ReadStruct<typename Class::ProgramHeader>(file, table + i * header->e_phentsize);
    if (!program) return tl::unexpected(program.error());
    if (auto added = AddSegment(file, *program, i, image); !added) {
      return tl::unexpected(added.error());
    }
  }
  if (image.segments.empty()) return file.Invalid("is an ELF file with nothing to load");
  return image;
}

}  // namespace

bool ElfImage::Holds(uint64_t address) const {
  return std::any_of(segments.begin(), segments.end(), [address](const ElfSegment& segment) {
    return address - segment.address < segment.memory_size;
  });
}

bool IsElf(std::span<const uint8_t> head) {
  return head.size() >= EI_NIDENT && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> ParseElf(const BootFile& file) {
  std::array<uint8_t, EI_NIDENT> ident;
  if (auto read = file.Read(0, ident); !read) return tl::unexpected(read.error());
  if (ident[EI_DATA] != ELFDATA2LSB) return file.Invalid("is an ELF file for another byte order");
  if (ident[EI_CLASS] == ELFCLASS32) return Parse<Elf32>(file);
  if (ident[EI_CLASS] == ELFCLASS64) return Parse<Elf64>(file);
  return file.Invalid(fmt::format("malformed: ELF class {}", ident[EI_CLASS]));
}

Result<void> LoadSegments(const ElfImage& image, const BootFile& file, bool memory_is_zero,
                          RangePlan& plan) {
  for (size_t i = 0; i < image.segments.size(); ++i) {
    const ElfSegment& segment = image.segments[i];
    auto host =
        plan.Claim(fmt::format("kernel segment {}", i), segment.address, segment.memory_size);
    if (!host) return file.Invalid(host.error().message);
    if (auto read = file.Read(segment.offset, {*host, segment.file_size}); !read) return read;
    if (!memory_is_zero) {
      std::memset(*host + segment.file_size, 0, segment.memory_size - segment.file_size);
    }
  }
  return {};
}

}  // namespace vmm
