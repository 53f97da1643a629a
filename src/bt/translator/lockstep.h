// Translated code held against the interpreter while a machine runs. Before a translation is
// entered the interpreter runs the same instructions, and its effects are noted and undone; when
// the code comes out, or calls the interpreter in its midst, registers and memory must be what they
// then were. Instructions that only the interpreter does are done once, by it, between two such
// stretches. Nobody else may write to memory meanwhile: for runs in turns.
#pragma once

#include <array>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "bt/interp/block_cache.h"
#include "bt/interp/cpu.h"
#include "bt/translator/translation.h"
#include "bt/translator/translator.h"
#include "bt/translator/treatment.h"

namespace bt {

class Translator::Lockstep {
 public:
  explicit Lockstep(Translator& translator);

  // `translation` is of `parts`, and has that code.
  void Note(const Translation& translation, std::span<const BlockPath::Part> parts,
            CodeVerifier::Range hot, CodeVerifier::Range cold);
  void Clear();

  // RIP stands on `translation`, and code will run from there, to the end of the turn at most.
  void Expect(const Translation& translation);
  // The same in its midst, behind the instruction that ends at offset `next` in its page.
  void ExpectBehind(const Translation& translation, uint16_t next);
  // The code has come this far. Empty: as the interpreter does, or nothing was expected. Else the
  // difference, for people, and nothing more is expected.
  std::string Compare();
  // Anything may come next.
  void Forget() { points_.clear(); }

  // Instructions of the guest that were compared.
  uint64_t compared() const { return compared_; }

 private:
  // What an instruction does to memory.
  struct Step {
    const Op* op;
    bool expected;                 // the interpreter may run it, and undo it
    uint8_t named = 0, stack = 0;  // bytes of the operand that it names, of what it pushes or pops
    bool named_written = false, pushes = false, frame = false;  // frame: LEAVE, by RBP
    bool bits = false;    // of a string of bits, at the place that `op->src` says
    uint8_t repeats = 0;  // bytes of an element, of REP STOS or REP MOVS
    bool moves = false;
    bool vector = false, system = false;
    // EFLAGS bits: that it depends on, surely writes, and leaves undefined.
    uint32_t flags_read = 0, flags_written = 0, undefined = 0;
  };
  // Of the processor, where few instructions change anything.
  struct System {
    uint64_t rflags;
    uint64_t kernel_gs_base;
    uint64_t key;
    TlbBank* tlb;
    uint8_t cpl;
    View view;
    CodeSize code_size;
    std::array<uint64_t, 7> seg_base;
    std::array<vmm::SegmentState, 6> seg;
  };
  static constexpr size_t kFpuBytes = 832;  // x87, SSE and AVX state in standard form
  using Fpu = std::array<uint8_t, kFpuBytes>;
  // Between two instructions.
  struct Point {
    Point() {}  // not zeroed, which would be half of the work of a run
    std::array<uint64_t, kSlots> r;
    Flags flags;
    uint32_t undefined;          // EFLAGS bits that may be anything
    size_t system, fpu, writes;  // how many there were
  };
  struct Write {
    uint8_t* host;
    uint64_t linear;
    uint32_t size;
    size_t data;  // in data_: what was there before, and then what is
  };

  // Whether the interpreter may run an instruction ahead of the code.
  enum class Ahead : uint8_t {
    kYes,
    kUnknown,  // not that way; the code may do it all the same
    kNo,       // it needs more than the TLB has: the code, too, must call the interpreter
  };

  const std::vector<Step>& StepsOf(const Block& block);
  const Block* BlockAt(uint64_t linear, const Block& before, uint64_t page) const;
  void ExpectFrom(const Translation& translation, const Block* block, size_t index);
  void RunAhead(const Block* block, size_t index);
  static Step StepOf(const Op& op, const Insn& insn);
  bool Reads(uint64_t linear, uint64_t size) const;
  bool Writes(uint64_t linear, uint64_t size);
  Ahead Prepare(const Step& step);
  Ahead PrepareRepeat(const Step& step);
  void AddPoint(const Step* step);
  System SystemNow() const;
  Fpu FpuNow() const;
  void NoteWritten();
  void Undo();
  bool FlagsAre(const Point& want) const;
  bool SystemIs(const System& want) const;
  bool FpuIs(const Fpu& want) const;
  bool MemoryIs(size_t writes);
  std::string Report(const Point& want, size_t done, bool passed);
  std::string MemoryReport();
  std::string CodeReport();

  Translator& translator_;
  Cpu& cpu_;
  std::unordered_map<const Block*, std::vector<Step>> steps_;
  struct Recent {
    const Block* block = nullptr;
    const std::vector<Step>* steps = nullptr;
  };
  std::array<Recent, 4096> recent_;  // of steps_, by the block's address
  struct Place {
    std::vector<const Block*> blocks;
    CodeVerifier::Range hot, cold;
  };
  std::unordered_map<const Translation*, Place> places_;

  // The stretch that is expected.
  const Translation* from_ = nullptr;
  uint64_t first_ = 0;         // instructions_ where it begins
  std::vector<Point> points_;  // the first is the beginning; none: nothing is expected
  std::vector<System> systems_;
  std::vector<Fpu> fpus_;
  std::vector<Write> writes_;
  std::vector<uint8_t> data_;
  Ahead end_ = Ahead::kUnknown;  // why it ends where it does
  uint64_t compared_ = 0;
};

}  // namespace bt
