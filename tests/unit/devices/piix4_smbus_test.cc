#include "legacy-devices/piix4_smbus.h"

#include <catch2/catch.hpp>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;

TEST_CASE("a transfer on the empty SMBus ends at once because nobody answers") {
  // [PIIX4] SMBHSTSTS; the order of Linux i2c-piix4
  Piix4Smbus smbus;
  CHECK(In(smbus, 0) == 0x00);
  Out(smbus, 4, 0xA1);  // SPD of the first memory module
  Out(smbus, 3, 0x02);
  Out(smbus, 2, 0x08);
  Out(smbus, 2, 0x48);
  CHECK(In(smbus, 0) == 0x04);
  CHECK(In(smbus, 2) == 0x08);  // START is write-only
  Out(smbus, 0, 0x04);
  CHECK(In(smbus, 0) == 0x00);
  Out(smbus, 2, 0x02);
  CHECK(In(smbus, 0) == 0x10);  // killed
}

TEST_CASE("the SMBus block register runs through thirty-two bytes") {
  Piix4Smbus smbus;
  In(smbus, 2);
  for (uint8_t i = 0; i < 32; ++i) Out(smbus, 7, i + 1);
  In(smbus, 2);
  for (uint8_t i = 0; i < 33; ++i) CHECK(In(smbus, 7) == i % 32 + 1u);
}

TEST_CASE("the SMBus host is saved, loaded and refused when impossible") {
  Piix4Smbus a;
  Out(a, 2, 0x48);
  Out(a, 3, 0x5A42, 2);
  Out(a, 7, 0x77);
  Piix4SmbusState saved = a.Save();
  Piix4Smbus b;
  REQUIRE(b.Load(saved));
  CHECK(b.Save() == saved);
  CHECK(In(b, 3, 2) == 0x5A42);
  SECTION("version") {
    saved.version = 3;
  }
  SECTION("status") {
    saved.SMBHSTSTS = vmm::BitRegister<piix4_smbus::SMBHSTSTS>(0x01);
  }
  SECTION("control") {
    saved.SMBHSTCNT = vmm::BitRegister<piix4_smbus::SMBHSTCNT>(0x40);
  }
  SECTION("index") {
    saved.block_index = 32;
  }
  CHECK_FALSE(b.Load(saved));
  b.Reset();
  CHECK(b.Save() == Piix4SmbusState{});
}

TEST_CASE("random accesses leave the SMBus host in a state that it would load itself") {
  Piix4Smbus smbus;
  Random random(5);
  for (int i = 0; i < 5000; ++i) {
    const size_t size = size_t{1} << random.Below(4);
    if (random.Below(2))
      Out(smbus, random.Below(20), random.Next(), size);
    else
      In(smbus, random.Below(20), size);
    REQUIRE(smbus.Load(smbus.Save()));
  }
}
