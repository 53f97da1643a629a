; A 64-bit guest that executes random bytes, episode after episode: the payload of a bzImage, behind
; which test_storm.py puts the bytes. Every exception and every tick of the local APIC's timer ends an
; episode; the next one starts anywhere in the bytes, with registers from a table of awkward values.
; After EPISODES it ends by the debug-exit port with 0, unless the bytes have found another end.
;
; Its own code, tables and page tables are read-only; what the bytes overwrite is the bytes, scratch
; memory, and what they reach by luck.

bits 64
org 0x1000000

EPISODES  equ 12000
TICK      equ 4000               ; of the APIC timer
SIZE      equ 0x10000            ; of the random bytes
TABLES    equ 0x1800000          ; page tables and IDT: read-only later
DATA      equ 0x1A00000          ; what this program writes
SCRATCH   equ 0x1C00000
BLOB      equ 0x1400000          ; where the random bytes run
IDT       equ TABLES + 0x10000
STACK     equ DATA + 0x10000     ; of every exception
COUNTER   equ DATA
SEED      equ DATA + 8
XCR0      equ DATA + 16
REGISTERS equ DATA + 0x100
CR4_VALUE equ 0x40660            ; PAE, MCE, OSFXSR, OSXMMEXCPT, OSXSAVE
CR0_VALUE equ 0x80010033         ; PG, WP, NE, ET, MP, PE

times 0x200 db 0x90
entry64:
  cli
  mov rsp, STACK
  lgdt [gdt_pointer]
  push 8
  push flat
  o64 retf
flat:
  mov eax, 16
  mov ds, eax
  mov es, eax
  mov ss, eax

  mov edi, TABLES
  xor eax, eax
  mov ecx, 0x11000 / 8
  rep stosq
  mov qword [TABLES], TABLES + 0x1007
  mov qword [TABLES + 511 * 8], TABLES + 0x1007
  mov qword [TABLES + 0x1000], TABLES + 0x2007
  mov qword [TABLES + 0x1000 + 511 * 8], TABLES + 0x2007
  mov edi, TABLES + 0x2000       ; the first GiB, of which 64 MiB are RAM
  mov eax, 0x87
.large:
  stosq
  add eax, 0x200000
  cmp eax, 0x40000000
  jb .large
  and byte [TABLES + 0x2000], ~2
  and byte [TABLES + 0x2000 + (0x1000000 >> 21) * 8], ~2
  and byte [TABLES + 0x2000 + (TABLES >> 21) * 8], ~2

  mov edi, IDT
  mov ecx, 256
.gate:
  mov eax, episode
  mov [rdi], ax
  mov word [rdi + 2], 8
  mov word [rdi + 4], 0xEE01     ; IST 1, DPL 3, interrupt gate
  shr eax, 16
  mov [rdi + 6], eax
  mov dword [rdi + 10], 0
  mov word [rdi + 14], 0
  add edi, 16
  loop .gate
  lidt [idt_pointer]
  mov eax, 24
  ltr ax

  mov dword [XCR0], 3            ; x87 and SSE, and AVX if it is there
  mov eax, 1
  cpuid
  bt ecx, 28
  jnc .no_avx
  mov dword [XCR0], 7
.no_avx:
  mov dword [COUNTER], EPISODES
  mov rax, [seed]
  mov [SEED], rax
  mov esi, blob
  mov edi, BLOB
  mov ecx, SIZE / 8
  rep movsq

  mov al, 0xFF                   ; both 8259s: everything masked
  out 0x21, al
  out 0xA1, al
  mov ecx, 0x1B                  ; x2APIC
  rdmsr
  or eax, 0xC00
  wrmsr
  xor edx, edx
%macro x2apic 2
  mov ecx, %1
  mov eax, %2
  wrmsr
%endmacro
  x2apic 0x80F, 0x1FF            ; SVR: on
  x2apic 0x83E, 0xB              ; divide by 1
  x2apic 0x832, 0x20040          ; periodic, vector 0x40
  x2apic 0x838, TICK

; Whatever has happened: put the machine right, and go on elsewhere.
episode:
  mov eax, CR0_VALUE
  mov cr0, rax
  mov eax, CR4_VALUE
  mov cr4, rax
  mov eax, TABLES
  mov cr3, rax
  mov eax, [XCR0]
  xor ecx, ecx
  xor edx, edx
  xsetbv
  mov ecx, 0xC0000080            ; EFER: SCE, LME, LMA, NXE
  mov eax, 0xD01
  xor edx, edx
  wrmsr
  x2apic 0x80B, 0                ; EOI
  lidt [idt_pointer]
  xor eax, eax
  mov dr7, rax
  fninit
  ldmxcsr [mxcsr]
  cld
  mov eax, 16
  mov ds, eax
  mov es, eax
  mov rsp, STACK
  dec dword [COUNTER]
  jz .end

  mov edi, REGISTERS
.fill:
  call random
  and eax, (values_end - values) / 8 - 1
  mov rax, [values + rax * 8]
  mov [rdi], rax
  add edi, 8
  cmp edi, REGISTERS + 16 * 8
  jne .fill
  push 16                        ; SS
  push qword [REGISTERS + 15 * 8]
  call random
  and eax, 0xCD5                 ; OF, DF, SF, ZF, AF, PF, CF
  or eax, 0x202                  ; IF
  push rax
  push 8
  call random
  and eax, SIZE - 1
  add eax, BLOB
  push rax
%assign i 0
%rep 8
  movq mm %+ i, [REGISTERS + i * 8]
  movups xmm %+ i, [REGISTERS + i * 16]
%assign i i + 1
%endrep
  mov rax, [REGISTERS]
  mov rbx, [REGISTERS + 8]
  mov rcx, [REGISTERS + 16]
  mov rdx, [REGISTERS + 24]
  mov rsi, [REGISTERS + 32]
  mov rdi, [REGISTERS + 40]
  mov rbp, [REGISTERS + 48]
  mov r8, [REGISTERS + 56]
  mov r9, [REGISTERS + 64]
  mov r10, [REGISTERS + 72]
  mov r11, [REGISTERS + 80]
  mov r12, [REGISTERS + 88]
  mov r13, [REGISTERS + 96]
  mov r14, [REGISTERS + 104]
  mov r15, [REGISTERS + 112]
  iretq
.end:
  xor eax, eax
  out 0xF4, al
  jmp $

; xorshift64, in RAX
random:
  mov rax, [SEED]
  mov rdx, rax
  shl rdx, 13
  xor rax, rdx
  mov rdx, rax
  shr rdx, 7
  xor rax, rdx
  mov rdx, rax
  shl rdx, 17
  xor rax, rdx
  mov [SEED], rax
  ret

align 16
gdt: dq 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
     dw 0x67, tss - $$
     db (0x1000000 >> 16) & 0xFF, 0x89, 0, 0x1000000 >> 24
     dq 0
     dq 0x00CFF3000000FFFF, 0x00AFFB000000FFFF  ; data, code for CPL 3
gdt_end:
gdt_pointer: dw gdt_end - gdt - 1
             dq gdt
idt_pointer: dw 256 * 16 - 1
             dq IDT
align 16
tss: dd 0
     dq STACK, STACK, STACK, 0
%rep 7
     dq STACK
%endrep
     dq 0
     dw 0, 0x68
mxcsr: dd 0x1F80

align 8
values:
  dq 0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255
  dq -1, -2, -7, -8, -16, -4095, -4096, -4097
  dq 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000
  dq 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0x7FFFFFFFFFF8, 0x7FFFFFFFFFFF
  dq 0x800000000000, 0xFFFF7FFFFFFFFFF9, 0xFFFF800000000000, 0xFFFFFF8000000000
  dq SCRATCH, SCRATCH + 0x1000, SCRATCH + 0x1001, SCRATCH + 0xFF8, SCRATCH + 0xFFF, SCRATCH + 0x8003
  dq SCRATCH + 0x10000, SCRATCH + 0x1FFFF8, SCRATCH + 0x40, SCRATCH + 0x2000, SCRATCH + 0x3010
  dq BLOB, BLOB + 0x123, BLOB + 0x1FFC, BLOB + 0x8000, BLOB + SIZE - 4
  dq 0x1000000, TABLES + 0x1000, 0x4000000 - 8, 0x4000000, 0x30000000, 0x30000FFD, 0x3FFFFFFC
  dq 0xA0000, 0xFFFFFFFFC1C00000, 0x3F8, 0xCF8, 0x5555555555555555
values_end:
align 8
seed: dq 0x9E3779B97F4A7C15      ; test_storm.py puts another one here
blob:
