// Hardware task switches by JMP, CALL, task gates and IRET. [SDM 3A] 7.3
#include "bt/interp/cpu.h"

namespace bt {
namespace {

constexpr unsigned kLink = 0, kTss32Size = 104, kTss16Size = 44;

// What a task switch saves and loads, wherever the TSS keeps it.
struct TaskState {
  uint32_t cr3 = 0, eip = 0, eflags = 0;
  uint32_t gpr[8] = {};
  uint16_t selector[6] = {};  // as vmm::Seg numbers them
  uint16_t ldt = 0;
  bool trap = false;
};

template <class T>
T Get(const uint8_t* image, unsigned offset) {
  T value;
  std::memcpy(&value, image + offset, sizeof(T));
  return value;
}
template <class T>
void Put(uint8_t* image, unsigned offset, T value) {
  std::memcpy(image + offset, &value, sizeof(T));
}

// Where the fields stand. [SDM 3A] figures 7-2 and 7-10
struct Layout {
  unsigned eip, eflags, gpr, selectors, ldt;
  unsigned word;                    // bytes of a register
  unsigned selector_count;          // a 16-bit TSS has no FS and GS
  unsigned saved_begin, saved_end;  // what a switch away from the task writes
};
constexpr Layout kLayout32 = {32, 36, 40, 72, 96, 4, 6, 32, 96};
constexpr Layout kLayout16 = {14, 16, 18, 34, 42, 2, 4, 14, 42};

TaskState ParseTask(const uint8_t* image, bool wide) {
  const Layout& at = wide ? kLayout32 : kLayout16;
  const auto word = [&](unsigned offset) {
    return wide ? Get<uint32_t>(image, offset) : Get<uint16_t>(image, offset);
  };
  TaskState task;
  task.eip = word(at.eip);
  task.eflags = word(at.eflags);
  for (unsigned i = 0; i < 8; ++i) task.gpr[i] = word(at.gpr + i * at.word);
  for (unsigned i = 0; i < at.selector_count; ++i)
    task.selector[i] = Get<uint16_t>(image, at.selectors + i * at.word);
  task.ldt = Get<uint16_t>(image, at.ldt);
  if (wide) {
    task.cr3 = Get<uint32_t>(image, 28);
    task.trap = image[100] & 1;
  }
  return task;
}

}  // namespace

// The TSS descriptor that a switch goes to: an available one, or, for IRET, the busy one of the
// task to return to.
bool Cpu::FindTask(uint16_t selector, bool busy, vmm::SegmentState& task) {
  const uint16_t error = selector & 0xfffc;
  const uint8_t vector = busy ? kTS : kGP;
  uint64_t low;
  if (error == 0 || (selector & 4)) return Raise(vector, error);
  if (!FetchDescriptor(selector, low, nullptr, vector)) return false;
  task = ParseDescriptor(selector, low);
  if (task.s() || (task.type() & 7) != (busy ? 3 : 1)) return Raise(vector, error);
  return task.present() || Raise(kNP, error);
}

bool Cpu::ProbeSystem(uint64_t linear, unsigned size) {
  uint64_t phys;
  return Translate(linear & LinearMask(), Access::kWrite, View::kSupervisor, &phys, nullptr) &&
         Translate((linear + size - 1) & LinearMask(), Access::kWrite, View::kSupervisor, &phys,
                   nullptr);
}

bool Cpu::SwitchTask(uint16_t selector, TaskSwitch reason, bool has_error, uint32_t error) {
  const bool nests = reason == TaskSwitch::kCall || reason == TaskSwitch::kEvent;
  const bool returns = reason == TaskSwitch::kReturn;
  vmm::SegmentState next;
  if (!FindTask(selector, returns, next)) return false;
  const bool wide = next.type() & 8;
  const unsigned size = wide ? kTss32Size : kTss16Size;
  if (next.limit < size - 1) return Raise(kTS, selector & 0xfffc);

  // All that may fault in the old task, before anything changes.
  const Layout& old_layout = tr_.type() & 8 ? kLayout32 : kLayout16;
  const uint64_t old_state = tr_.base + old_layout.saved_begin;
  const unsigned old_size = old_layout.saved_end - old_layout.saved_begin;
  const uint64_t old_type = gdtr_.base + (tr_.selector & 0xfff8) + 5;
  const uint64_t next_type = gdtr_.base + (selector & 0xfff8) + 5;
  uint8_t image[kTss32Size] = {}, saved[kTss32Size];
  uint8_t old_byte, next_byte;
  if (!LoadSystem(next.base, image, size) ||
      !LoadSystem(old_state, saved + old_layout.saved_begin, old_size) ||
      !ProbeSystem(old_state, old_size) || (nests && !ProbeSystem(next.base + kLink, 2)) ||
      !LoadSystem(old_type, old_byte) || !ProbeSystem(old_type, 1) ||
      !LoadSystem(next_type, next_byte) || !ProbeSystem(next_type, 1)) {
    return false;
  }

  // The old task goes to rest.
  const auto put = [&](unsigned offset, uint64_t value) {
    if (old_layout.word == 4)
      Put(saved, offset, static_cast<uint32_t>(value));
    else
      Put(saved, offset, static_cast<uint16_t>(value));
  };
  put(old_layout.eip, r[kRip]);
  put(old_layout.eflags, returns ? Rflags() & ~eflags::NT : Rflags());
  for (unsigned i = 0; i < 8; ++i) put(old_layout.gpr + i * old_layout.word, r[i]);
  for (unsigned i = 0; i < old_layout.selector_count; ++i)
    Put(saved, old_layout.selectors + i * old_layout.word, seg_[i].selector);
  StoreSystem(old_state, saved + old_layout.saved_begin, old_size);
  if (!nests) StoreSystem<uint8_t>(old_type, static_cast<uint8_t>(old_byte & ~2));
  if (nests) StoreSystem<uint16_t>(next.base + kLink, tr_.selector);
  if (!returns) StoreSystem<uint8_t>(next_type, static_cast<uint8_t>(next_byte | 2));

  // From here on everything happens in the new one, faults as well.
  TaskState task = ParseTask(image, wide);
  if (nests) task.eflags |= eflags::NT;
  tr_ = next;
  tr_.access |= 2;
  cr0_ |= cr0::TS;
  halted_ = step_trap_ = false;
  const bool watched = debug_.data();
  debug_.SetDr7(debug_.dr7() & ~dr7::LOCAL);
  UpdateBreakpoints(watched);
  r[kRip] = task.eip;
  for (unsigned i = 0; i < 8; ++i) r[i] = task.gpr[i];
  SetRflags(task.eflags);
  if (!EnterTask(task.selector, task.ldt, wide ? &task.cr3 : nullptr)) {
    fault_.in_new_task = true;
    return false;
  }
  if (task.trap) PostDebugTrap(dr6::BT);
  if (task.eip > seg_[1].limit) Raise(kGP, 0);
  if (!fault_.active && has_error) Push(error, wide ? 4 : 2);
  fault_.in_new_task = fault_.active;
  return !fault_.active;
}

// Address space and segments of the task that has begun. All selectors are there before the first
// descriptor is looked at, so that a handler of a fault can mend them.
bool Cpu::EnterTask(const uint16_t (&selectors)[6], uint16_t ldt, const uint32_t* cr3) {
  for (unsigned i = 0; i < 6; ++i) {
    seg_[i] = vmm::SegmentState{};
    seg_[i].selector = selectors[i];
    seg_[i].access = vmm::SegmentState::kUnusable;
    seg_base_[i] = 0;
  }
  ldtr_ = vmm::SegmentState{};
  ldtr_.selector = ldt;
  ldtr_.access = vmm::SegmentState::kUnusable;
  cpl_ = V86() ? 3 : selectors[1] & 3;
  UpdateMode();
  if (cr3 && (cr0_ & cr0::PG) && !WriteCr3(*cr3)) return false;
  if (ldt & 0xfffc) {
    const uint16_t error = ldt & 0xfffc;
    uint64_t low;
    if (ldt & 4) return Raise(kTS, error);
    if (!FetchDescriptor(ldt, low, nullptr, kTS)) return false;
    const vmm::SegmentState state = ParseDescriptor(ldt, low);
    if (state.s() || state.type() != 2 || !state.present()) return Raise(kTS, error);
    ldtr_ = state;
  }
  if (V86()) {
    for (unsigned i = 0; i < 6; ++i) LoadRealSegment(static_cast<vmm::Seg>(i), selectors[i]);
    return true;
  }
  using enum vmm::Seg;
  for (vmm::Seg segment : {CS, SS, DS, ES, FS, GS}) {
    if (!LoadTaskSegment(segment, selectors[static_cast<unsigned>(segment)])) return false;
  }
  return true;
}

// As LoadSegment, but what is wrong with a segment is the TSS's fault: #TS. [SDM 3A] table 7-1
bool Cpu::LoadTaskSegment(vmm::Seg segment, uint16_t selector) {
  const uint16_t error = selector & 0xfffc;
  const bool code = segment == vmm::Seg::CS, stack = segment == vmm::Seg::SS;
  if (error == 0) return (!code && !stack) || Raise(kTS, 0);
  uint64_t low;
  if (!FetchDescriptor(selector, low, nullptr, kTS)) return false;
  vmm::SegmentState state = ParseDescriptor(selector, low);
  const bool is_code = state.s() && (state.type() & 8);
  const bool conforming = is_code && (state.type() & 4);
  const unsigned rpl = selector & 3;
  bool good;
  if (code)
    good = is_code && (conforming ? state.dpl() <= rpl : state.dpl() == rpl);
  else if (stack)
    good = state.s() && !is_code && (state.type() & 2) && rpl == cpl_ && state.dpl() == cpl_;
  else
    good = state.s() && (!is_code || (state.type() & 2)) &&
           (conforming || (state.dpl() >= cpl_ && state.dpl() >= rpl));
  if (!good) return Raise(kTS, error);
  if (!state.present()) return Raise(stack ? kSS : kNP, error);
  if (!SetAccessed(selector, low)) return false;
  state.access |= 1;
  SetSegment(segment, state);
  return true;
}

}  // namespace bt
