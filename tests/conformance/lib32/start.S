// Boots a 32-bit conformance guest: Multiboot leaves it in protected mode without paging.
// [MULTIBOOT] 3

#define CODE 0x08
#define DATA 0x10

        .section .multiboot, "a"
        .align 4
        .long 0x1badb002, 0, -0x1badb002

        .section .text
        .code32
        .global start
start:
        cli
        cld
        mov $boot_stack_end, %esp
        lgdt boot_gdtr
        ljmp $CODE, $1f
1:      mov $DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %fs
        mov %eax, %gs
        fninit
        call GuestStart
2:      hlt
        jmp 2b

// --- Interrupts: 256 stubs of 16 bytes. ---
        .balign 16
        .global interrupt_stubs
interrupt_stubs:
vector = 0
        .rept 256
        .balign 16
        // Vectors that push an error code: 8, 10-14, 17, 21. [SDM 3A] table 6-1
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
        push $0
        .endif
        push $vector
        jmp interrupt_common
vector = vector + 1
        .endr

interrupt_common:
        cld
        pusha
        push %ds
        push %es
        push %fs
        push %gs
        mov $DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %esp, %eax
        push %eax
        call OnInterrupt                // true: the call that TryCall made is over
        add $4, %esp
        test %al, %al
        jnz trap_resume
        pop %gs
        pop %fs
        pop %es
        pop %ds
        popa
        add $8, %esp
        iret

// void CallTrapped(void (*function)(void*), void* argument): calls; an exception comes back to
// trap_resume, from whatever mode and stack.
        .global CallTrapped, trap_resume, trap_esp
CallTrapped:
        push %ebp
        push %ebx
        push %esi
        push %edi
        pushf
        mov %esp, trap_esp
        mov 24(%esp), %eax
        mov 28(%esp), %edx
        push %edx
        call *%eax
        add $4, %esp
        jmp 1f
trap_resume:
        mov $DATA, %eax
        mov %eax, %ss
        mov trap_esp, %esp
        mov %eax, %fs
        mov %eax, %gs
1:      popf
        pop %edi
        pop %esi
        pop %ebx
        pop %ebp
        ret

// void EnterUser(eip, esp, eflags, edi): to CPL 3. void EnterV86(const V86Registers&).
        .global EnterUser, EnterV86
EnterUser:
        mov 4(%esp), %eax
        mov 8(%esp), %ecx
        mov 12(%esp), %edx
        mov 16(%esp), %edi
        push $0x23
        push %ecx
        push %edx
        push $0x1b
        push %eax
        mov $0x23, %eax
        mov %eax, %ds
        mov %eax, %es
        iret
EnterV86:
        mov 4(%esp), %eax
        push 32(%eax)                   // GS, FS, DS, ES, SS, ESP, EFLAGS, CS, EIP
        push 28(%eax)
        push 24(%eax)
        push 20(%eax)
        push 16(%eax)
        push 12(%eax)
        push 8(%eax)
        push 4(%eax)
        push (%eax)
        mov 36(%eax), %ebx
        mov 40(%eax), %ecx
        mov 44(%eax), %edx
        mov 48(%eax), %esi
        mov 52(%eax), %edi
        mov 56(%eax), %eax
        iret

        .section .data
        .balign 16
        .global gdt, gdt_end
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        // 0x08 code
        .quad 0x00cf93000000ffff        // 0x10 data
        .quad 0x00cffb000000ffff        // 0x1b user code
        .quad 0x00cff3000000ffff        // 0x23 user data
        .quad 0                         // 0x28 TSS, filled by GuestStart
        .quad 0x00009b000000ffff        // 0x30 code, 16 bits, base 0
        .quad 0x000093000000ffff        // 0x38 data, 16 bits, base 0
        .quad 0x00cf13000000ffff        // 0x40 data, not present
        .fill 55, 8, 0                  // 0x48: the guest's own
gdt_end:
boot_gdtr:
        .word gdt_end - gdt - 1
        .long gdt
trap_esp: .long 0

        .section .bss
        .balign 4096
boot_stack: .skip 32768
boot_stack_end:
        .section .note.GNU-stack, "", @progbits
