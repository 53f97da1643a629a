// A cell: a process of the host that has nothing but the translated code of one vCPU's users, and
// guest memory at the guest's own linear addresses. It runs when its vCPU's thread, the monitor,
// hands over to it, and hands back; never both at once.
#pragma once

#include <sys/types.h>

#include <array>
#include <memory>

#include "bt/cell/bell.h"
#include "bt/cell/cell_layout.h"
#include "bt/cell/cell_stubs.h"
#include "bt/cell/one_processor.h"

namespace bt {

class CellProcess {
 public:
  // Null: the host does not let us, and the reason is logged once. `memory`: the memfd of guest
  // memory, the only file that the cell has; `bell`: how it is told to come back.
  static std::unique_ptr<CellProcess> Create(int memory, const Bell& bell);
  ~CellProcess();
  CellProcess(const CellProcess&) = delete;
  CellProcess& operator=(const CellProcess&) = delete;

  CellState& state() const { return *At<CellState>(CellLayout::kState); }
  CellControl& control() const { return *At<CellControl>(CellLayout::kControl); }
  // Where its code looks whether it is wanted: a word, and a page. The monitor has other ones.
  std::atomic<uint32_t>& wanted() const { return *At<std::atomic<uint32_t>>(CellLayout::kBell); }
  uint32_t& bell() const { return *At<uint32_t>(CellLayout::kBell + vmm::kPageSize); }
  JumpTable* tables() const { return At<JumpTable>(CellLayout::kTables); }
  uint8_t* code() const { return monitor_ + CellLayout::kCode; }
  // From where the monitor sees something to where the cell does.
  ptrdiff_t shift() const {
    return static_cast<ptrdiff_t>(address_ - reinterpret_cast<uint64_t>(monitor_));
  }
  uint64_t address() const { return address_; }  // of the band that no guest page may take

  // Starts it: the code of `stubs` is there. False: the host does not let us.
  bool Start(CodeSpace& space, const CellStubs& stubs);
  bool started() const { return pid_ > 0; }
  // To the cell and back: its calls are made, it goes on at state().entry, until it wants
  // something. False: the process is gone.
  bool HandOver();
  // Of a processor, that it has used; nanoseconds.
  uint64_t CpuTime() const;
  unsigned queued() const { return queued_; }
  // Has the cell make its calls, and nothing else.
  void MakeCalls();
  // Whether the host's kernel refused any of the calls of the last hand-over.
  bool refused() const { return refused_; }
  // A call of the host's kernel that the cell makes before it goes on. False: no room, hand over
  // first.
  bool Queue(const CellState::Call& call);
  // Lets this thread run anywhere again, until it hands over the next time.
  void LetGo() { together_.Leave(); }
  // Ends the process; nothing is queued or handed over any more.
  void Stop();

 private:
  CellProcess(uint8_t* monitor, int fd, int memory, const Bell& bell);
  template <class T>
  T* At(size_t offset) const {
    return reinterpret_cast<T*>(monitor_ + offset);
  }
  [[noreturn]] void Become(CodeSpace& space, const CellStubs& stubs);

  uint8_t* monitor_;  // where the monitor has it
  uint64_t address_;  // where the cell has it
  int fd_;
  int memory_;
  const Bell& bell_;
  pid_t pid_ = -1;
  // Ours until they are handed over: what the cell can write is not believed.
  std::array<CellState::Call, CellState::kCalls> calls_;
  unsigned queued_ = 0;
  bool refused_ = false;
  OneProcessor together_;  // with the thread that hands over
};

}  // namespace bt
