// Interrupt pins of PCI bus 0, one slot a line: address, pin (INTA is 0), source, IOAPIC input.
// INTA-INTD of slot n are wired to PIRQ (n - 1 + pin) % 4. [ACPI] 6.2.13

// With the IOAPIC: PIRQA-PIRQD are its inputs 16-19.
Name (PRTA, Package ()
{
    Package () { 0x0001FFFF, 0, 0, 16 }, Package () { 0x0001FFFF, 1, 0, 17 }, Package () { 0x0001FFFF, 2, 0, 18 }, Package () { 0x0001FFFF, 3, 0, 19 },
    Package () { 0x0002FFFF, 0, 0, 17 }, Package () { 0x0002FFFF, 1, 0, 18 }, Package () { 0x0002FFFF, 2, 0, 19 }, Package () { 0x0002FFFF, 3, 0, 16 },
    Package () { 0x0003FFFF, 0, 0, 18 }, Package () { 0x0003FFFF, 1, 0, 19 }, Package () { 0x0003FFFF, 2, 0, 16 }, Package () { 0x0003FFFF, 3, 0, 17 },
    Package () { 0x0004FFFF, 0, 0, 19 }, Package () { 0x0004FFFF, 1, 0, 16 }, Package () { 0x0004FFFF, 2, 0, 17 }, Package () { 0x0004FFFF, 3, 0, 18 },
    Package () { 0x0005FFFF, 0, 0, 16 }, Package () { 0x0005FFFF, 1, 0, 17 }, Package () { 0x0005FFFF, 2, 0, 18 }, Package () { 0x0005FFFF, 3, 0, 19 },
    Package () { 0x0006FFFF, 0, 0, 17 }, Package () { 0x0006FFFF, 1, 0, 18 }, Package () { 0x0006FFFF, 2, 0, 19 }, Package () { 0x0006FFFF, 3, 0, 16 },
    Package () { 0x0007FFFF, 0, 0, 18 }, Package () { 0x0007FFFF, 1, 0, 19 }, Package () { 0x0007FFFF, 2, 0, 16 }, Package () { 0x0007FFFF, 3, 0, 17 },
    Package () { 0x0008FFFF, 0, 0, 19 }, Package () { 0x0008FFFF, 1, 0, 16 }, Package () { 0x0008FFFF, 2, 0, 17 }, Package () { 0x0008FFFF, 3, 0, 18 },
    Package () { 0x0009FFFF, 0, 0, 16 }, Package () { 0x0009FFFF, 1, 0, 17 }, Package () { 0x0009FFFF, 2, 0, 18 }, Package () { 0x0009FFFF, 3, 0, 19 },
    Package () { 0x000AFFFF, 0, 0, 17 }, Package () { 0x000AFFFF, 1, 0, 18 }, Package () { 0x000AFFFF, 2, 0, 19 }, Package () { 0x000AFFFF, 3, 0, 16 },
    Package () { 0x000BFFFF, 0, 0, 18 }, Package () { 0x000BFFFF, 1, 0, 19 }, Package () { 0x000BFFFF, 2, 0, 16 }, Package () { 0x000BFFFF, 3, 0, 17 },
    Package () { 0x000CFFFF, 0, 0, 19 }, Package () { 0x000CFFFF, 1, 0, 16 }, Package () { 0x000CFFFF, 2, 0, 17 }, Package () { 0x000CFFFF, 3, 0, 18 },
    Package () { 0x000DFFFF, 0, 0, 16 }, Package () { 0x000DFFFF, 1, 0, 17 }, Package () { 0x000DFFFF, 2, 0, 18 }, Package () { 0x000DFFFF, 3, 0, 19 },
    Package () { 0x000EFFFF, 0, 0, 17 }, Package () { 0x000EFFFF, 1, 0, 18 }, Package () { 0x000EFFFF, 2, 0, 19 }, Package () { 0x000EFFFF, 3, 0, 16 },
    Package () { 0x000FFFFF, 0, 0, 18 }, Package () { 0x000FFFFF, 1, 0, 19 }, Package () { 0x000FFFFF, 2, 0, 16 }, Package () { 0x000FFFFF, 3, 0, 17 },
    Package () { 0x0010FFFF, 0, 0, 19 }, Package () { 0x0010FFFF, 1, 0, 16 }, Package () { 0x0010FFFF, 2, 0, 17 }, Package () { 0x0010FFFF, 3, 0, 18 },
    Package () { 0x0011FFFF, 0, 0, 16 }, Package () { 0x0011FFFF, 1, 0, 17 }, Package () { 0x0011FFFF, 2, 0, 18 }, Package () { 0x0011FFFF, 3, 0, 19 },
    Package () { 0x0012FFFF, 0, 0, 17 }, Package () { 0x0012FFFF, 1, 0, 18 }, Package () { 0x0012FFFF, 2, 0, 19 }, Package () { 0x0012FFFF, 3, 0, 16 },
    Package () { 0x0013FFFF, 0, 0, 18 }, Package () { 0x0013FFFF, 1, 0, 19 }, Package () { 0x0013FFFF, 2, 0, 16 }, Package () { 0x0013FFFF, 3, 0, 17 },
    Package () { 0x0014FFFF, 0, 0, 19 }, Package () { 0x0014FFFF, 1, 0, 16 }, Package () { 0x0014FFFF, 2, 0, 17 }, Package () { 0x0014FFFF, 3, 0, 18 },
    Package () { 0x0015FFFF, 0, 0, 16 }, Package () { 0x0015FFFF, 1, 0, 17 }, Package () { 0x0015FFFF, 2, 0, 18 }, Package () { 0x0015FFFF, 3, 0, 19 },
    Package () { 0x0016FFFF, 0, 0, 17 }, Package () { 0x0016FFFF, 1, 0, 18 }, Package () { 0x0016FFFF, 2, 0, 19 }, Package () { 0x0016FFFF, 3, 0, 16 },
    Package () { 0x0017FFFF, 0, 0, 18 }, Package () { 0x0017FFFF, 1, 0, 19 }, Package () { 0x0017FFFF, 2, 0, 16 }, Package () { 0x0017FFFF, 3, 0, 17 },
    Package () { 0x0018FFFF, 0, 0, 19 }, Package () { 0x0018FFFF, 1, 0, 16 }, Package () { 0x0018FFFF, 2, 0, 17 }, Package () { 0x0018FFFF, 3, 0, 18 },
    Package () { 0x0019FFFF, 0, 0, 16 }, Package () { 0x0019FFFF, 1, 0, 17 }, Package () { 0x0019FFFF, 2, 0, 18 }, Package () { 0x0019FFFF, 3, 0, 19 },
    Package () { 0x001AFFFF, 0, 0, 17 }, Package () { 0x001AFFFF, 1, 0, 18 }, Package () { 0x001AFFFF, 2, 0, 19 }, Package () { 0x001AFFFF, 3, 0, 16 },
    Package () { 0x001BFFFF, 0, 0, 18 }, Package () { 0x001BFFFF, 1, 0, 19 }, Package () { 0x001BFFFF, 2, 0, 16 }, Package () { 0x001BFFFF, 3, 0, 17 },
    Package () { 0x001CFFFF, 0, 0, 19 }, Package () { 0x001CFFFF, 1, 0, 16 }, Package () { 0x001CFFFF, 2, 0, 17 }, Package () { 0x001CFFFF, 3, 0, 18 },
    Package () { 0x001DFFFF, 0, 0, 16 }, Package () { 0x001DFFFF, 1, 0, 17 }, Package () { 0x001DFFFF, 2, 0, 18 }, Package () { 0x001DFFFF, 3, 0, 19 },
    Package () { 0x001EFFFF, 0, 0, 17 }, Package () { 0x001EFFFF, 1, 0, 18 }, Package () { 0x001EFFFF, 2, 0, 19 }, Package () { 0x001EFFFF, 3, 0, 16 },
    Package () { 0x001FFFFF, 0, 0, 18 }, Package () { 0x001FFFFF, 1, 0, 19 }, Package () { 0x001FFFFF, 2, 0, 16 }, Package () { 0x001FFFFF, 3, 0, 17 }
})

// With the 8259s: through the PIIX3.
Name (PRTP, Package ()
{
    Package () { 0x0001FFFF, 0, LNKA, 0 }, Package () { 0x0001FFFF, 1, LNKB, 0 }, Package () { 0x0001FFFF, 2, LNKC, 0 }, Package () { 0x0001FFFF, 3, LNKD, 0 },
    Package () { 0x0002FFFF, 0, LNKB, 0 }, Package () { 0x0002FFFF, 1, LNKC, 0 }, Package () { 0x0002FFFF, 2, LNKD, 0 }, Package () { 0x0002FFFF, 3, LNKA, 0 },
    Package () { 0x0003FFFF, 0, LNKC, 0 }, Package () { 0x0003FFFF, 1, LNKD, 0 }, Package () { 0x0003FFFF, 2, LNKA, 0 }, Package () { 0x0003FFFF, 3, LNKB, 0 },
    Package () { 0x0004FFFF, 0, LNKD, 0 }, Package () { 0x0004FFFF, 1, LNKA, 0 }, Package () { 0x0004FFFF, 2, LNKB, 0 }, Package () { 0x0004FFFF, 3, LNKC, 0 },
    Package () { 0x0005FFFF, 0, LNKA, 0 }, Package () { 0x0005FFFF, 1, LNKB, 0 }, Package () { 0x0005FFFF, 2, LNKC, 0 }, Package () { 0x0005FFFF, 3, LNKD, 0 },
    Package () { 0x0006FFFF, 0, LNKB, 0 }, Package () { 0x0006FFFF, 1, LNKC, 0 }, Package () { 0x0006FFFF, 2, LNKD, 0 }, Package () { 0x0006FFFF, 3, LNKA, 0 },
    Package () { 0x0007FFFF, 0, LNKC, 0 }, Package () { 0x0007FFFF, 1, LNKD, 0 }, Package () { 0x0007FFFF, 2, LNKA, 0 }, Package () { 0x0007FFFF, 3, LNKB, 0 },
    Package () { 0x0008FFFF, 0, LNKD, 0 }, Package () { 0x0008FFFF, 1, LNKA, 0 }, Package () { 0x0008FFFF, 2, LNKB, 0 }, Package () { 0x0008FFFF, 3, LNKC, 0 },
    Package () { 0x0009FFFF, 0, LNKA, 0 }, Package () { 0x0009FFFF, 1, LNKB, 0 }, Package () { 0x0009FFFF, 2, LNKC, 0 }, Package () { 0x0009FFFF, 3, LNKD, 0 },
    Package () { 0x000AFFFF, 0, LNKB, 0 }, Package () { 0x000AFFFF, 1, LNKC, 0 }, Package () { 0x000AFFFF, 2, LNKD, 0 }, Package () { 0x000AFFFF, 3, LNKA, 0 },
    Package () { 0x000BFFFF, 0, LNKC, 0 }, Package () { 0x000BFFFF, 1, LNKD, 0 }, Package () { 0x000BFFFF, 2, LNKA, 0 }, Package () { 0x000BFFFF, 3, LNKB, 0 },
    Package () { 0x000CFFFF, 0, LNKD, 0 }, Package () { 0x000CFFFF, 1, LNKA, 0 }, Package () { 0x000CFFFF, 2, LNKB, 0 }, Package () { 0x000CFFFF, 3, LNKC, 0 },
    Package () { 0x000DFFFF, 0, LNKA, 0 }, Package () { 0x000DFFFF, 1, LNKB, 0 }, Package () { 0x000DFFFF, 2, LNKC, 0 }, Package () { 0x000DFFFF, 3, LNKD, 0 },
    Package () { 0x000EFFFF, 0, LNKB, 0 }, Package () { 0x000EFFFF, 1, LNKC, 0 }, Package () { 0x000EFFFF, 2, LNKD, 0 }, Package () { 0x000EFFFF, 3, LNKA, 0 },
    Package () { 0x000FFFFF, 0, LNKC, 0 }, Package () { 0x000FFFFF, 1, LNKD, 0 }, Package () { 0x000FFFFF, 2, LNKA, 0 }, Package () { 0x000FFFFF, 3, LNKB, 0 },
    Package () { 0x0010FFFF, 0, LNKD, 0 }, Package () { 0x0010FFFF, 1, LNKA, 0 }, Package () { 0x0010FFFF, 2, LNKB, 0 }, Package () { 0x0010FFFF, 3, LNKC, 0 },
    Package () { 0x0011FFFF, 0, LNKA, 0 }, Package () { 0x0011FFFF, 1, LNKB, 0 }, Package () { 0x0011FFFF, 2, LNKC, 0 }, Package () { 0x0011FFFF, 3, LNKD, 0 },
    Package () { 0x0012FFFF, 0, LNKB, 0 }, Package () { 0x0012FFFF, 1, LNKC, 0 }, Package () { 0x0012FFFF, 2, LNKD, 0 }, Package () { 0x0012FFFF, 3, LNKA, 0 },
    Package () { 0x0013FFFF, 0, LNKC, 0 }, Package () { 0x0013FFFF, 1, LNKD, 0 }, Package () { 0x0013FFFF, 2, LNKA, 0 }, Package () { 0x0013FFFF, 3, LNKB, 0 },
    Package () { 0x0014FFFF, 0, LNKD, 0 }, Package () { 0x0014FFFF, 1, LNKA, 0 }, Package () { 0x0014FFFF, 2, LNKB, 0 }, Package () { 0x0014FFFF, 3, LNKC, 0 },
    Package () { 0x0015FFFF, 0, LNKA, 0 }, Package () { 0x0015FFFF, 1, LNKB, 0 }, Package () { 0x0015FFFF, 2, LNKC, 0 }, Package () { 0x0015FFFF, 3, LNKD, 0 },
    Package () { 0x0016FFFF, 0, LNKB, 0 }, Package () { 0x0016FFFF, 1, LNKC, 0 }, Package () { 0x0016FFFF, 2, LNKD, 0 }, Package () { 0x0016FFFF, 3, LNKA, 0 },
    Package () { 0x0017FFFF, 0, LNKC, 0 }, Package () { 0x0017FFFF, 1, LNKD, 0 }, Package () { 0x0017FFFF, 2, LNKA, 0 }, Package () { 0x0017FFFF, 3, LNKB, 0 },
    Package () { 0x0018FFFF, 0, LNKD, 0 }, Package () { 0x0018FFFF, 1, LNKA, 0 }, Package () { 0x0018FFFF, 2, LNKB, 0 }, Package () { 0x0018FFFF, 3, LNKC, 0 },
    Package () { 0x0019FFFF, 0, LNKA, 0 }, Package () { 0x0019FFFF, 1, LNKB, 0 }, Package () { 0x0019FFFF, 2, LNKC, 0 }, Package () { 0x0019FFFF, 3, LNKD, 0 },
    Package () { 0x001AFFFF, 0, LNKB, 0 }, Package () { 0x001AFFFF, 1, LNKC, 0 }, Package () { 0x001AFFFF, 2, LNKD, 0 }, Package () { 0x001AFFFF, 3, LNKA, 0 },
    Package () { 0x001BFFFF, 0, LNKC, 0 }, Package () { 0x001BFFFF, 1, LNKD, 0 }, Package () { 0x001BFFFF, 2, LNKA, 0 }, Package () { 0x001BFFFF, 3, LNKB, 0 },
    Package () { 0x001CFFFF, 0, LNKD, 0 }, Package () { 0x001CFFFF, 1, LNKA, 0 }, Package () { 0x001CFFFF, 2, LNKB, 0 }, Package () { 0x001CFFFF, 3, LNKC, 0 },
    Package () { 0x001DFFFF, 0, LNKA, 0 }, Package () { 0x001DFFFF, 1, LNKB, 0 }, Package () { 0x001DFFFF, 2, LNKC, 0 }, Package () { 0x001DFFFF, 3, LNKD, 0 },
    Package () { 0x001EFFFF, 0, LNKB, 0 }, Package () { 0x001EFFFF, 1, LNKC, 0 }, Package () { 0x001EFFFF, 2, LNKD, 0 }, Package () { 0x001EFFFF, 3, LNKA, 0 },
    Package () { 0x001FFFFF, 0, LNKC, 0 }, Package () { 0x001FFFFF, 1, LNKD, 0 }, Package () { 0x001FFFFF, 2, LNKA, 0 }, Package () { 0x001FFFFF, 3, LNKB, 0 }
})
