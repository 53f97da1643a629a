// Boots a conformance guest: Multiboot entry, long mode, interrupt stubs, start of other processors.
// [MULTIBOOT] 3, [SDM 3A] 9.8.5

#define CODE64 0x08
#define DATA 0x10
#define AP_PAGE 0x8000          // where other processors start: SIPI vector 8

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
        // Identity map of the first 4 GiB by 2 MiB pages; the last GiB, with the devices, uncached.
        mov $boot_pdpt + 3, %eax
        mov %eax, boot_pml4
        mov $boot_pds + 3, %eax
        mov $boot_pdpt, %edi
        mov $4, %ecx
1:      mov %eax, (%edi)
        add $0x1000, %eax
        add $8, %edi
        loop 1b
        mov $0x83, %eax
        mov $boot_pds, %edi
        mov $2048, %ecx
2:      mov %eax, (%edi)
        cmp $0xc0000000, %eax
        jb 3f
        orl $0x18, (%edi)
3:      add $0x200000, %eax
        add $8, %edi
        loop 2b
        call enter_long_mode
        lgdt boot_gdtr
        ljmp $CODE64, $start64

// CR4, CR3, EFER and CR0 for long mode; used by every processor. Uses EAX, ECX, EDX.
enter_long_mode:
        mov $0x620, %eax                // PAE, OSFXSR, OSXMMEXCPT
        mov %eax, %cr4
        mov $boot_pml4, %eax
        mov %eax, %cr3
        mov $0xc0000080, %ecx           // EFER: SCE, LME, NXE
        rdmsr
        or $0x901, %eax
        wrmsr
        mov $0x80010033, %eax           // PG, WP, NE, ET, MP, PE
        mov %eax, %cr0
        ret

        .code64
start64:
        mov $DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %fs
        mov %eax, %gs
        mov $boot_stack_end, %rsp
        fninit
        lgdt boot_gdtr64
        call GuestStart
1:      hlt
        jmp 1b

// --- Other processors. Copied to AP_PAGE. ---
        .global ap_code, ap_code_end, ap_stack
        .code16
ap_code:
        cli
        cld
        xor %ax, %ax
        mov %ax, %ds
        lgdtl AP_PAGE + (ap_gdtr - ap_code)
        mov %cr0, %eax
        or $1, %eax
        mov %eax, %cr0
        ljmpl $0x18, $ap32
ap_gdtr:
        .word gdt_end - gdt - 1
        .long gdt
ap_code_end:
        .code32
ap32:   mov $DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $boot_stack_end - 0x2000, %esp
        call enter_long_mode
        ljmp $CODE64, $ap64
        .code64
ap64:   mov $DATA, %eax
        mov %eax, %fs
        mov %eax, %gs
        mov ap_stack, %rsp
        fninit
        lgdt boot_gdtr64
        call ApStart
1:      hlt
        jmp 1b

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
        push %rax
        push %rcx
        push %rdx
        push %rbx
        push %rbp
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, %rdi
        mov %rsp, %rbp
        and $-16, %rsp
        call OnInterrupt
        mov %rbp, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rbp
        pop %rbx
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp
        iretq

// void CallTrapped(void (*function)(void*), void* argument, uint64_t* rsp): calls; an exception
// comes back to trap_resume with the RSP that was stored.
        .global CallTrapped, trap_resume
CallTrapped:
        push %rbp
        push %rbx
        push %r12
        push %r13
        push %r14
        push %r15
        pushf
        mov %rsp, (%rdx)
        mov %rdi, %rax
        mov %rsi, %rdi
        sub $8, %rsp
        call *%rax
        add $8, %rsp
trap_resume:
        popf
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbx
        pop %rbp
        ret

        .section .data
        .balign 16
        .global gdt, gdt_end
gdt:    .quad 0
        .quad 0x00af9b000000ffff        // 0x08 code, 64 bits
        .quad 0x00cf93000000ffff        // 0x10 data
        .quad 0x00cf9b000000ffff        // 0x18 code, 32 bits
        .quad 0x008f9b000000ffff        // 0x20 code, 16 bits
        .quad 0x00cffb000000ffff        // 0x2b user code, 32 bits (as SYSRET wants it)
        .quad 0x00cff3000000ffff        // 0x33 user data
        .quad 0x00affb000000ffff        // 0x3b user code, 64 bits
        .quad 0x00cf13000000ffff        // 0x40 data, not present
        .quad 0x008f93000000ffff        // 0x48 data, 16 bits
        .quad 0, 0                      // 0x50 TSS of CPU 0, filled by GuestStart
        .quad 0, 0                      // 0x60 spare
gdt_end:
boot_gdtr:
        .word gdt_end - gdt - 1
        .long gdt
        .balign 8
boot_gdtr64:
        .word gdt_end - gdt - 1
        .quad gdt
ap_stack: .quad 0

        .section .bss
        .balign 4096
        .global boot_pml4, boot_pdpt, boot_pds
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pds: .skip 4 * 4096
boot_stack: .skip 32768
boot_stack_end:
        .section .note.GNU-stack, "", @progbits
