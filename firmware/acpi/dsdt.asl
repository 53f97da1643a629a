// The board in ACPI's language: i440FX, PIIX3, PIIX4 power management, legacy devices. The same for
// every machine; the processors are in a table made at run time by src/vmm/acpi.
DefinitionBlock ("", "DSDT", 2, "VMM", "VMMPC", 1)
{
    // Soft off: the sleep type of the PIIX4. No other sleep state. [PIIX4] PMCNTRL
    Name (\_S5, Package () { 0, 0, 0, 0 })

    // 0: the guest uses the 8259s, 1: the IOAPIC. [ACPI] 5.8.1
    Name (PICM, 0)
    Method (\_PIC, 1) { PICM = Arg0 }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0x0000, 0x00FF, 0, 0x0100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                // From where RAM below 4 GiB ends at the highest to the IOAPIC.
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
            })

            Include ("pci_routing.asl")
            Method (_PRT, 0)
            {
                If (PICM) { Return (PRTA) }
                Return (PRTP)
            }

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                // PIRQRC: bits 3:0 the ISA IRQ, bit 7 off. [PIIX3] PIRQRCA-D
                OperationRegion (PRC, PCI_Config, 0x60, 4)
                Field (PRC, ByteAcc, NoLock, Preserve) { PRCA, 8, PRCB, 8, PRCC, 8, PRCD, 8 }
                Include ("isa_devices.asl")
            }
        }

        // [HPET] 3.2.5. Its interrupts are told by its registers.
        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0xFED00000, 0x00000400) })
        }

        // PIRQA-PIRQD in 8259 mode. [ACPI] 6.2.13
        Method (LSTA, 1)
        {
            If (Arg0 & 0x80) { Return (0x09) }
            Return (0x0B)
        }
        Name (BUFF, ResourceTemplate () { Interrupt (, Level, ActiveHigh, Shared, , , LIRQ) { 0 } })
        CreateDWordField (BUFF, LIRQ._INT, LINT)
        Method (LCRS, 1, Serialized)
        {
            LINT = 0
            If (!(Arg0 & 0x80)) { LINT = Arg0 & 0x0F }
            Return (BUFF)
        }
        Name (LPRS, ResourceTemplate () { Interrupt (, Level, ActiveHigh, Shared) { 5, 10, 11 } })

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Method (_STA, 0) { Return (LSTA (\_SB.PCI0.ISA.PRCA)) }
            Method (_DIS, 0) { \_SB.PCI0.ISA.PRCA |= 0x80 }
            Method (_PRS, 0) { Return (LPRS) }
            Method (_CRS, 0) { Return (LCRS (\_SB.PCI0.ISA.PRCA)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, IRQN) \_SB.PCI0.ISA.PRCA = IRQN }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Method (_STA, 0) { Return (LSTA (\_SB.PCI0.ISA.PRCB)) }
            Method (_DIS, 0) { \_SB.PCI0.ISA.PRCB |= 0x80 }
            Method (_PRS, 0) { Return (LPRS) }
            Method (_CRS, 0) { Return (LCRS (\_SB.PCI0.ISA.PRCB)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, IRQN) \_SB.PCI0.ISA.PRCB = IRQN }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Method (_STA, 0) { Return (LSTA (\_SB.PCI0.ISA.PRCC)) }
            Method (_DIS, 0) { \_SB.PCI0.ISA.PRCC |= 0x80 }
            Method (_PRS, 0) { Return (LPRS) }
            Method (_CRS, 0) { Return (LCRS (\_SB.PCI0.ISA.PRCC)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, IRQN) \_SB.PCI0.ISA.PRCC = IRQN }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 4)
            Method (_STA, 0) { Return (LSTA (\_SB.PCI0.ISA.PRCD)) }
            Method (_DIS, 0) { \_SB.PCI0.ISA.PRCD |= 0x80 }
            Method (_PRS, 0) { Return (LPRS) }
            Method (_CRS, 0) { Return (LCRS (\_SB.PCI0.ISA.PRCD)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 5, IRQN) \_SB.PCI0.ISA.PRCD = IRQN }
        }
    }
}
