#include "vmm/core/irq/shared_irq_line.h"

#include <catch2/catch.hpp>

#include "../support/fakes.h"

TEST_CASE("a shared interrupt wire is high while any of its inputs is") {
  fakes::FakeIrqLine wire;
  vmm::SharedIrqLine shared(wire);
  vmm::IrqLine& com1 = shared.AddInput();
  vmm::IrqLine& com3 = shared.AddInput();
  com3.Set(false);
  CHECK_FALSE(wire.high);
  com1.Set(true);
  com1.Set(true);
  com3.Set(true);
  CHECK(wire.high);
  com1.Set(false);
  CHECK(wire.high);
  com3.Set(false);
  CHECK_FALSE(wire.high);
  CHECK(wire.rises == 1);
}
