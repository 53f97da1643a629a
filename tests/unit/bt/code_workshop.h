// Translates single blocks without a vCPU: for tests that look at code and do not run it.
#pragma once

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "bt/isa/decoder.h"
#include "bt/translator/block_translator.h"
#include "bt/translator/code_verifier.h"

// Stands for the vCPU: what code reaches relative to RIP.
struct Surroundings {
  uint64_t r[bt::kSlots];
  bt::Flags flags;
  bt::TlbBank* tlb;
  uint64_t seg_base[8];
  uint64_t key;
  std::atomic<uint32_t> attention;
  uint32_t bell;
  bt::CodeState state;
  uint64_t cr0, cr4, xcr0, rflags;
  uint8_t cpl;
  uint8_t fpu[4096];
  vmm::CpuState::Msrs msr;
  uint64_t efer;
  vmm::SegmentState seg[6];
  bt::View view;
  bt::TlbBank* views[bt::kViews];
  uint64_t keys[2];
  uint64_t instructions, turn_end;
};

class CodeWorkshop {
 public:
  struct Emitted {
    bt::CodeVerifier::Range hot, cold;
    bt::Translation translation;
    bt::Numbered<bt::Exit> exits;
    size_t blocks;  // of which it consists
    bt::Numbered<bt::DirectAccess> accesses;
  };

  // `leave_out`: from the stubs.
  explicit CodeWorkshop(bt::LeaveOut leave_out = bt::LeaveOut::kNothing, bool direct = false)
      : space(reinterpret_cast<uint8_t*>(&around) + kState, kCode),
        context{around.r,
                around.flags,
                around.tlb,
                around.seg_base,
                around.key,
                around.attention,
                around.state,
                around.state.jumps,
                around.cr0,
                around.cr4,
                around.xcr0,
                around.rflags,
                around.cpl,
                around.fpu,
                around.msr,
                around.efer,
                around.seg,
                around.view,
                around.views,
                around.keys,
                around.instructions,
                around.turn_end,
                direct,
                &around.bell},
        stubs(bt::Stubs::Emit(space, context, leave_out)),
        features(vmm::CpuidPolicy::Build({.cpu_count = 1, .tsc_hz = 1'000'000'000})) {}

  // A block at physical 0x5100, or, with the number of a `second_page`, one that ends there.
  Emitted Translate(const std::vector<uint8_t>& code,
                    bt::LeaveOut leave_out = bt::LeaveOut::kNothing, bool plain = false,
                    uint16_t second_page = 0, bt::Counting counting = bt::Counting::kNone) {
    return Translate(Blocks{{second_page ? uint64_t{0x5fff} : uint64_t{0x5100}, code}}, leave_out,
                     plain, second_page, counting);
  }

  // Blocks by their physical addresses: the one at the first, and what follows it.
  using Blocks = std::vector<std::pair<uint64_t, std::vector<uint8_t>>>;
  Emitted Translate(const Blocks& blocks, bt::LeaveOut leave_out = bt::LeaveOut::kNothing,
                    bool plain = false, uint16_t second_page = 0,
                    bt::Counting counting = bt::Counting::kNone) {
    Source source(blocks, around);
    bt::BlockPath path;
    REQUIRE(path.Choose(source.first(), source, features, context.direct, second_page != 0));
    REQUIRE(space.Prepare(bt::BlockTranslator::kMaxCode));
    Emitted emitted{};
    emitted.translation.second_page = second_page;
    emitted.hot.begin = space.OffsetOf(space.hot());
    emitted.cold.begin = space.OffsetOf(space.cold());
    bt::Numbered<bt::Site> sites;
    bt::BlockTranslator translator(space, context, stubs, features, emitted.exits, sites,
                                   emitted.accesses, leave_out, counting);
    REQUIRE(translator.Translate(path, plain, emitted.translation));
    emitted.blocks = path.parts().size();
    emitted.hot.end = space.OffsetOf(space.hot());
    emitted.cold.end = space.OffsetOf(space.cold());
    return emitted;
  }

  // What the verifier has against it.
  std::string Verify(const Emitted& emitted) const {
    using bt::FlagHome;
    const std::vector<bt::Exit> exits = emitted.exits.Since(0);
    const std::vector<bt::DirectAccess> accesses = emitted.accesses.Since(0);
    return bt::CodeVerifier(space, context, stubs)
        .Verify({emitted.hot,
                 emitted.cold,
                 {{emitted.translation.from(FlagHome::kHost), FlagHome::kHost},
                  {emitted.translation.from(FlagHome::kMemory), FlagHome::kMemory}},
                 exits,
                 {},
                 emitted.translation.second_page,
                 accesses});
  }

 private:
  class Source final : public bt::BlockSource {
   public:
    Source(const Blocks& blocks, const Surroundings& around) : around_(around) {
      for (const auto& [phys, bytes] : blocks) parts_.push_back(MakePart(phys, bytes));
      for (Part& part : parts_) {
        part.block.ops = part.ops.data();
        part.block.op_count = static_cast<uint16_t>(part.ops.size());
      }
    }
    bt::Block& first() { return parts_.front().block; }
    bool EnsureOps(bt::Block&) override { return true; }
    bt::Block* FindBlock(uint64_t phys) override {
      for (Part& part : parts_) {
        if (part.block.phys == phys) return &part.block;
      }
      return nullptr;
    }
    bool FetchBytes(const bt::Block& block, uint8_t* to) override {
      for (const Part& part : parts_) {
        if (&part.block != &block) continue;
        std::copy(part.bytes.begin(), part.bytes.end(), to);
        return true;
      }
      return false;
    }
    bt::Glimpse Look() const override {
      bt::Glimpse glimpse{};
      std::ranges::copy(around_.r, glimpse.r.begin());
      if (around_.tlb) std::ranges::copy(around_.tlb->ranges, glimpse.ranges.begin());
      return glimpse;
    }

   private:
    struct Part {
      bt::Block block;
      std::vector<uint8_t> bytes;
      std::vector<bt::Op> ops;
    };
    static Part MakePart(uint64_t phys, const std::vector<uint8_t>& bytes) {
      Part part{{}, bytes, {}};
      for (size_t at = 0; at < bytes.size();) {
        bt::Insn insn;
        REQUIRE(bt::Decode({bytes.data() + at, bytes.size() - at}, bt::CodeSize::k64, insn) ==
                bt::DecodeStatus::kOk);
        part.ops.emplace_back().length = insn.length;
        at += insn.length;
      }
      part.ops.emplace_back();  // falls through
      part.block.phys = phys;
      part.block.bytes = static_cast<uint16_t>(bytes.size());
      return part;
    }
    const Surroundings& around_;
    std::vector<Part> parts_;
  };

  static constexpr size_t kState = 0x4000, kCode = 0x100000;
  static_assert(sizeof(Surroundings) <= kState);

  static Surroundings* Reserve() {
    void* memory = mmap(nullptr, kState + kCode, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    REQUIRE(mprotect(memory, kState, PROT_READ | PROT_WRITE) == 0);
    return new (memory) Surroundings{};
  }

  struct Unmap {
    void operator()(Surroundings* around) const { munmap(around, kState + kCode); }
  };
  const std::unique_ptr<Surroundings, Unmap> reserved_{Reserve()};

 public:
  Surroundings& around = *reserved_;
  bt::CodeSpace space;
  const bt::CodeContext context;
  const bt::Stubs stubs;
  const bt::FeatureSet features;
};
