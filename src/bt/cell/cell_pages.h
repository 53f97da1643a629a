// Which pages of the guest a cell has at their linear addresses. The kernel's page tables are one
// more TLB: an entry may stay until the guest invalidates it, and go at any time.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "bt/cell/cell_process.h"
#include "bt/interp/cpu.h"

namespace bt {

class CellPages final : public TlbMirror {
 public:
  CellPages(Cpu& cpu, CellProcess& process) : cpu_(cpu), process_(process) {}

  // The user may access `linear` and cannot: maps its page and others around it before the cell
  // goes on. False: the page cannot be there, or is.
  bool Map(uint64_t linear, bool write);

  void Flush() override;
  void FlushPage(uint64_t linear, bool large) override;
  void DropWriteEntries(uint64_t host_page) override;

  // After a hand-over: false if the host refused a page, which happens for want of memory only.
  bool GoodSoFar() const { return !process_.refused() && !failed_; }

 private:
  struct Page {
    uint64_t file_offset;
    bool writable;
  };
  struct Wanted {
    uint64_t file_offset = 0;
    bool writable = false;
  };
  bool Find(uint64_t page, Wanted* wanted);
  void Queue(const CellState::Call& call);
  void Forget(uint64_t page);
  void Unmap(uint64_t begin, uint64_t end);

  // Linux gives a process 65 530 areas by default; each page may be one.
  static constexpr size_t kMost = 48 * 1024;
  static constexpr uint64_t kAround = 64;  // pages that are looked at together

  Cpu& cpu_;
  CellProcess& process_;
  bool failed_ = false;
  std::unordered_map<uint64_t, Page> pages_;              // by linear page
  std::unordered_multimap<uint64_t, uint64_t> writable_;  // linear pages by file offset
};

}  // namespace bt
