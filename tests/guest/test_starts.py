"""Starts without a kernel: a boot sector, a ROM of our own, SeaBIOS as a ROM."""

import os
import unittest

from vmm_guest import *

BOOT_SECTOR = os.environ.get("VMM_BOOT_SECTOR", "")  # boot_sector.asm, with A20_MASKS where it does
ROM = os.environ.get("VMM_ROM", "")
SEABIOS = "/usr/share/seabios/bios-256k.bin"


class Starts(GuestTest):
    def test_a_boot_sector_runs_and_finds_its_services(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                # KVM has no A20 to mask.
                image = BOOT_SECTOR + ("" if engine == "kvm" else "-a20")
                guest = self.start(f'boot_sector = "{image}"\naccel = "{engine}"\n')
                guest.expect("hello from the boot sector", 20)
                self.assert_ends(guest, SUCCESS, 20)

    def test_a_rom_starts_at_the_reset_vector(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.start(f'firmware = "{ROM}"\naccel = "{engine}"\n'
                                   '[console]\nserial0 = "null"\ndebug = "stdio"\n')
                guest.expect("hello from the ROM", 20)
                self.assert_ends(guest, SUCCESS, 20)

    def test_seabios_starts_up_to_its_search_for_a_disk(self):
        if not os.path.exists(SEABIOS):
            self.skipTest(f"{SEABIOS} is missing: install seabios")
        guest = self.start(f'firmware = "{SEABIOS}"\naccel = "interpreter"\ncpus = 2\n'
                           '[console]\nserial0 = "null"\ndebug = "stdio"\n')
        guest.expect("SeaBIOS", 30)
        guest.expect(r"RamSize: 0x10000000 \[cmos\]", 30)
        guest.expect(r"Found 2 cpu\(s\)", 30)
        guest.expect("Boot failed: could not read the boot disk", 60)

    def test_what_does_not_go_together_is_refused(self):
        for config, words in [
                (f'firmware = "{ROM}"\nboot_sector = "{BOOT_SECTOR}"\n', "does not go with"),
                (f'firmware = "{ROM}"\nappend = "quiet"\n', "only a kernel gets it")]:
            guest = self.start(config, console=None)
            self.assert_ends(guest, CONFIG_INVALID, 20)
            self.assertIn(words, guest.messages)


if __name__ == "__main__":
    unittest.main(verbosity=2)
