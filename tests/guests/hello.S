// The smallest guest: prints its name and its command line to COM1, then ends as the command line says:
//   (nothing)  writes 0 to the debug-exit port: success
//   fail       writes 1 to the debug-exit port
//   off        ACPI soft off
//   reset      reset control register
//   panic      pvpanic, then halts for good
//   triple     triple fault
//   hang       halts with interrupts off
//   spin       never ends and never speaks
//   echo       sends back what COM1 receives, up to and with a 'q'; then success
// Built as a Multiboot kernel, and with PVH defined as a PVH kernel. Runs in 32-bit protected mode on
// the segments that it is given, [MULTIBOOT] 3.2, [PVH].

#define COM1 0x3f8
#define LSR (COM1 + 5)
#define LSR_DR 0x01
#define LSR_THRE 0x20
#define DEBUG_EXIT 0xf4
#define PVPANIC 0x505
#define PM1_CNT 0x604
#define SLP_EN 0x2000
#define RESET_CONTROL 0xcf9

#ifdef PVH
#define NAME "PVH"
#define COMMAND_LINE 24
        .section .note.xen, "a", @note
        .long 4, 4, 18          // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long start
#else
#define NAME "Multiboot"
#define COMMAND_LINE 16
        .section .multiboot, "a"
        .long 0x1badb002, 0, -0x1badb002
#endif

        .text
        .globl start
start:
        mov $stack_end, %esp
        cld
        mov $greeting, %esi
        call print
        mov COMMAND_LINE(%ebx), %esi
        call print
        mov $line_end, %esi
        call print

        // The action whose name is the whole command line; success for none.
        mov $actions, %edx
next:   mov (%edx), %edi
        test %edi, %edi
        jz success
        mov COMMAND_LINE(%ebx), %esi
compare:
        lodsb
        cmp (%edi), %al
        jne differs
        inc %edi
        test %al, %al
        jnz compare
        jmp *4(%edx)
differs:
        add $8, %edx
        jmp next

// Sends the text at ESI, to its NUL.
print:  lodsb
        test %al, %al
        jz 1f
        call send
        jmp print
1:      ret

// Sends AL when the transmitter has room.
send:   mov %al, %ah
        mov $LSR, %dx
2:      in %dx, %al
        test $LSR_THRE, %al
        jz 2b
        mov %ah, %al
        mov $COM1, %dx
        out %al, %dx
        ret

success:
        xor %eax, %eax
        out %al, $DEBUG_EXIT
        jmp hang
fail:   mov $1, %al
        out %al, $DEBUG_EXIT
        jmp hang
off:    mov $SLP_EN, %ax
        mov $PM1_CNT, %dx
        out %ax, %dx
        jmp hang
reset:  mov $6, %al
        mov $RESET_CONTROL, %dx
        out %al, %dx
        jmp hang
panic:  mov $1, %al
        mov $PVPANIC, %dx
        out %al, %dx
        jmp hang
triple: lidt no_idt
        int3
hang:   cli
        hlt
        jmp hang
spin:   jmp spin
echo:   mov $LSR, %dx
3:      in %dx, %al
        test $LSR_DR, %al
        jz 3b
        mov $COM1, %dx
        in %dx, %al
        mov %al, %cl
        call send
        cmp $'q', %cl
        jne echo
        jmp success

        .data
greeting:
        .asciz "hello from a " NAME " guest: "
line_end:
        .asciz "\n"
no_idt: .word 0
        .long 0

        .macro action name
        .pushsection .rodata
1:      .asciz "\name"
        .popsection
        .long 1b, \name
        .endm
actions:
        action fail
        action off
        action reset
        action panic
        action triple
        action hang
        action spin
        action echo
        .long 0

        .bss
        .skip 4096
stack_end:
