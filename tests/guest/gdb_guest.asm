; A guest to be debugged. It starts in 32-bit protected mode (Multiboot), starts CPU 1 in real mode,
; goes to 64-bit mode and counts there until somebody writes 1 to `stop`; then it reports success.
; CPU 1 counts for ever.

COM1        equ 0x3f8
DEBUG_EXIT  equ 0xf4
APIC_ICR    equ 0xfee00300
TRAMPOLINE  equ 0x8000          ; page 8: where the SIPI sends CPU 1
CPU1_COUNT  equ 0x8f00

section .text
bits 32
align 4
        dd 0x1badb002, 0, -0x1badb002   ; [MULTIBOOT] 3.1

global _start, bump, counter, start_cpu1, in_long_mode, loop64, work64, counter64, stop, vector, sum
_start:
        mov esp, stack_end
        call bump
        call bump
        call bump

start_cpu1:
        mov esi, cpu1
        mov edi, TRAMPOLINE
        mov ecx, cpu1_end - cpu1
        rep movsb
        mov dword [APIC_ICR], 0xc4500   ; INIT to all others [SDM 3A] 10.6.1
        mov dword [APIC_ICR], 0xc4608   ; SIPI, page 8
.wait:  cmp word [CPU1_COUNT], 0
        je .wait

        ; 1 GiB by 2 MiB pages. [SDM 3A] 4.5
        mov dword [pml4], pdpt + 3
        mov dword [pdpt], directory + 3
        mov edi, directory
        mov eax, 0x83
.map:   mov [edi], eax
        add eax, 0x200000
        add edi, 8
        cmp edi, directory + 4096
        jb .map
        mov eax, pml4
        mov cr3, eax
        mov eax, cr4
        or eax, 0x620                   ; PAE, OSFXSR, OSXMMEXCPT
        mov cr4, eax
        mov ecx, 0xc0000080             ; EFER.LME
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        lgdt [gdt_pointer]
        jmp 8:in_long_mode

bump:   inc dword [counter]
        ret

bits 64
in_long_mode:
        movaps xmm1, [rel vector]
        fninit
        fldpi
loop64:
        inc qword [rel counter64]
        call work64
        cmp byte [rel stop], 1
        jne loop64
        xor eax, eax
        mov dx, DEBUG_EXIT
        out dx, al
.end:   hlt
        jmp .end

work64: mov rax, [rel counter64]
        add [rel sum], rax
        ret

bits 16
cpu1:   xor ax, ax
        mov ds, ax
.count: inc word [CPU1_COUNT]
        jmp .count
cpu1_end:

section .data
align 16
vector:    dd 1.5, 2.5, -3.0, 4.0
gdt:       dq 0, 0x00af9b000000ffff    ; 64-bit code
gdt_pointer:
           dw 15
           dd gdt, 0
counter:   dd 0x1000
counter64: dq 0x100000000
sum:       dq 0
stop:      db 0

section .bss
align 4096
pml4:      resb 4096
pdpt:      resb 4096
directory: resb 4096
           resb 1024
stack_end:
