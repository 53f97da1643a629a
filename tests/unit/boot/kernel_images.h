// Small kernels made in memory, whole and correct; a test then spoils one field.
#pragma once

#include <elf.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "vmm/boot/load_kernel.h"

namespace boot_test {

using Bytes = std::vector<uint8_t>;

template <class Int>
void Put(Bytes& bytes, size_t offset, Int value) {
  if (bytes.size() < offset + sizeof(value)) bytes.resize(offset + sizeof(value));
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

inline void Append(Bytes& bytes, const void* data, size_t size) {
  const auto* from = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), from, from + size);
}

// A bzImage of protocol 2.15 with a 64-bit entry, as arch/x86/boot/header.S lays it out: five
// setup sectors, then `payload` bytes of 0x90.
inline Bytes BzImage(size_t payload = 0x4000) {
  Bytes image(6 * 512 + payload, 0x90);
  std::fill_n(image.begin(), 6 * 512, uint8_t{0});
  Put<uint8_t>(image, 0x1f1, 5);
  Put<uint32_t>(image, 0x1f4, static_cast<uint32_t>((payload + 15) / 16));
  Put<uint16_t>(image, 0x1fe, 0xaa55);
  Put<uint16_t>(image, 0x200, 0x6aeb);  // jmp: the header ends at 0x26c
  Put<uint32_t>(image, 0x202, 0x53726448);
  Put<uint16_t>(image, 0x206, 0x020f);
  Put<uint16_t>(image, 0x20e, 0x400);
  Put<uint8_t>(image, 0x211, 0x01);
  Put<uint32_t>(image, 0x214, 0x100000);
  Put<uint32_t>(image, 0x22c, 0x7fffffff);
  Put<uint32_t>(image, 0x230, 0x200000);
  Put<uint8_t>(image, 0x234, 1);
  Put<uint16_t>(image, 0x236, 0x0003);
  Put<uint32_t>(image, 0x238, 2047);
  Put<uint64_t>(image, 0x258, 0x1000000);
  Put<uint32_t>(image, 0x260, 0x800000);
  std::strcpy(reinterpret_cast<char*>(image.data() + 0x600), "6.1.0-test (builder) #1");
  return image;
}

struct Segment {
  uint64_t address;
  Bytes bytes;
  uint64_t memory_size = 0;     // 0: as many as `bytes`
  uint64_t virtual_offset = 0;  // p_vaddr - p_paddr
};

// An ELF64 or ELF32 executable; `notes` become a PT_NOTE.
template <class Ehdr, class Phdr>
Bytes Elf(uint8_t elf_class, uint16_t machine, uint64_t entry, const std::vector<Segment>& segments,
          const Bytes& notes = {}) {
  Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = machine;
  header.e_entry = static_cast<decltype(header.e_entry)>(entry);
  header.e_phoff = sizeof(Ehdr);
  header.e_ehsize = sizeof(Ehdr);
  header.e_phentsize = sizeof(Phdr);
  header.e_phnum = static_cast<uint16_t>(segments.size() + (notes.empty() ? 0 : 1));
  Bytes image;
  Append(image, &header, sizeof(header));
  size_t data = sizeof(header) + header.e_phnum * sizeof(Phdr);
  const auto add = [&](uint32_t type, const Segment& segment) {
    Phdr program{};
    program.p_type = type;
    program.p_offset = static_cast<decltype(program.p_offset)>(data);
    program.p_paddr = static_cast<decltype(program.p_paddr)>(segment.address);
    program.p_vaddr =
        static_cast<decltype(program.p_vaddr)>(segment.address + segment.virtual_offset);
    program.p_filesz = static_cast<decltype(program.p_filesz)>(segment.bytes.size());
    program.p_memsz = static_cast<decltype(program.p_memsz)>(
        segment.memory_size != 0 ? segment.memory_size : segment.bytes.size());
    program.p_align = 4;
    data += segment.bytes.size();
    Append(image, &program, sizeof(program));
  };
  for (const Segment& segment : segments) add(PT_LOAD, segment);
  if (!notes.empty()) add(PT_NOTE, {0, notes});
  for (const Segment& segment : segments) Append(image, segment.bytes.data(), segment.bytes.size());
  Append(image, notes.data(), notes.size());
  return image;
}

inline Bytes Elf64(uint64_t entry, const std::vector<Segment>& segments, const Bytes& notes = {}) {
  return Elf<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64, entry, segments, notes);
}
inline Bytes Elf32(uint64_t entry, const std::vector<Segment>& segments, const Bytes& notes = {}) {
  return Elf<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, EM_386, entry, segments, notes);
}

// [PVH]: a GNU note first, so that the search has something to step over.
inline Bytes PvhNotes(uint32_t entry) {
  Bytes notes;
  const uint32_t gnu[] = {4,          5,          3,
                          0x00554e47, 0x44434241, 0x45};  // name "GNU", 5 bytes padded to 8
  Append(notes, gnu, sizeof(gnu));
  const uint32_t xen[] = {4, 4, 18, 0x006e6558, entry};
  Append(notes, xen, sizeof(xen));
  return notes;
}

// A Multiboot header at the start of `code`; with `addresses` (header, load, load end, BSS end,
// entry) as flag bit 16.
inline Bytes MultibootHeader(uint32_t flags, const std::vector<uint32_t>& addresses = {}) {
  Bytes header;
  Put<uint32_t>(header, 0, 0x1badb002);
  Put<uint32_t>(header, 4, flags);
  Put<uint32_t>(header, 8, 0u - 0x1badb002 - flags);
  for (uint32_t address : addresses) Put<uint32_t>(header, header.size(), address);
  return header;
}

// A file that is gone when the test ends.
class TempFile {
 public:
  explicit TempFile(const Bytes& content) {
    const int fd = mkstemp(path_.data());
    if (fd >= 0) close(fd);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/vmm-boot-test-XXXXXX";
};

// Guest RAM, a CPU and the result of one load.
struct Boot {
  vmm::GuestMemory memory;
  vmm::CpuState cpu;
  vmm::BootRequest request;

  explicit Boot(uint64_t size = 64 * vmm::kMiB)
      : memory(std::move(vmm::GuestMemory::Create(size).value())) {
    vmm::ResetCpuState(cpu, 0, 0x600);
  }
  vmm::Result<vmm::BootEntry> Load(const Bytes& kernel) {
    return vmm::LoadKernel(vmm::BootFile::FromBytes("kernel test", kernel), request, memory, cpu);
  }
  // The message of the failure that `kernel` must be; empty when it loads.
  std::string Refusal(const Bytes& kernel) {
    auto result = Load(kernel);
    return result ? "" : result.error().message;
  }
  template <class Int>
  Int Peek(uint64_t address) const {
    Int value{};
    if (!memory.Read(vmm::GuestPhys(address),
                     {reinterpret_cast<uint8_t*>(&value), sizeof(value)})) {
      throw std::out_of_range("outside guest RAM");
    }
    return value;
  }
  std::string Text(uint64_t address) const {
    std::string text;
    while (char c = static_cast<char>(Peek<uint8_t>(address + text.size()))) text.push_back(c);
    return text;
  }
  uint64_t gpr(vmm::Gpr reg) const { return cpu.gpr[static_cast<size_t>(reg)]; }
  const vmm::SegmentState& seg(vmm::Seg reg) const { return cpu.seg[static_cast<size_t>(reg)]; }
};

}  // namespace boot_test
