// Code of a cell that no block is: it has no other.
#pragma once

#include "bt/cell/cell_layout.h"
#include "bt/translator/stubs.h"

namespace bt {

struct CellStubs {
  Stubs stubs;                    // what blocks jump to: `leave` and `indirect`
  CodeSpace::Offset main = 0;     // where the process begins; never returns
  CodeSpace::Offset fault = 0;    // handler of the host's signals
  CodeSpace::Offset restore = 0;  // where it returns to
};

// `whole`: address and size of the band that the cell keeps; the rest of its address space is the
// guest's.
CellStubs EmitCellStubs(CodeSpace& space, const CodeContext& context, CellState& state,
                        uint64_t whole, uint64_t bytes);

}  // namespace bt
