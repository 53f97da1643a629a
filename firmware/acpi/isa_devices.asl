// What stands behind the PCI-to-ISA bridge.

// Ports of the board that no driver may take: power management, general-purpose events, APM,
// edge/level control, system control port A.
Device (MBRD)
{
    Name (_HID, EisaId ("PNP0C02"))
    Name (_UID, 1)
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x0600, 0x0600, 1, 0x40)
        IO (Decode16, 0xAFE0, 0xAFE0, 1, 4)
        IO (Decode16, 0x00B2, 0x00B2, 1, 2)
        IO (Decode16, 0x04D0, 0x04D0, 1, 2)
        IO (Decode16, 0x0092, 0x0092, 1, 1)
    })
}

Device (PIC)
{
    Name (_HID, EisaId ("PNP0000"))
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x0020, 0x0020, 1, 2)
        IO (Decode16, 0x00A0, 0x00A0, 1, 2)
        IRQNoFlags () { 2 }
    })
}

Device (TIMR)
{
    Name (_HID, EisaId ("PNP0100"))
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x0040, 0x0040, 1, 4)
        IRQNoFlags () { 0 }
    })
}

Device (RTC)
{
    Name (_HID, EisaId ("PNP0B00"))
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x0070, 0x0070, 1, 8)
        IRQNoFlags () { 8 }
    })
}

Device (SPKR)
{
    Name (_HID, EisaId ("PNP0800"))
    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0061, 0x0061, 1, 1) })
}

Device (FPU)
{
    Name (_HID, EisaId ("PNP0C04"))
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x00F0, 0x00F0, 1, 1)
        IRQNoFlags () { 13 }
    })
}

Device (KBD)
{
    Name (_HID, EisaId ("PNP0303"))
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x0060, 0x0060, 1, 1)
        IO (Decode16, 0x0064, 0x0064, 1, 1)
        IRQNoFlags () { 1 }
    })
}

Device (MOU)
{
    Name (_HID, EisaId ("PNP0F13"))
    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
}

Device (COM1)
{
    Name (_HID, EisaId ("PNP0501"))
    Name (_UID, 1)
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x03F8, 0x03F8, 1, 8)
        IRQNoFlags () { 4 }
    })
}
Device (COM2)
{
    Name (_HID, EisaId ("PNP0501"))
    Name (_UID, 2)
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x02F8, 0x02F8, 1, 8)
        IRQNoFlags () { 3 }
    })
}
Device (COM3)
{
    Name (_HID, EisaId ("PNP0501"))
    Name (_UID, 3)
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x03E8, 0x03E8, 1, 8)
        IRQNoFlags () { 4 }
    })
}
Device (COM4)
{
    Name (_HID, EisaId ("PNP0501"))
    Name (_UID, 4)
    Name (_CRS, ResourceTemplate ()
    {
        IO (Decode16, 0x02E8, 0x02E8, 1, 8)
        IRQNoFlags () { 3 }
    })
}

// [PVPANIC]
Device (PEVT)
{
    Name (_HID, "QEMU0001")
    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0505, 0x0505, 1, 1) })
    OperationRegion (PREG, SystemIO, 0x0505, 1)
    Field (PREG, ByteAcc, NoLock, Preserve) { PVAL, 8 }
    Method (RDPT, 0) { Return (PVAL) }
    Method (WRPT, 1) { PVAL = Arg0 }
}
