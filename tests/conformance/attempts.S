// Every kind of instruction that names memory, each in a loop that loads all registers anew: `attempts`
// to `attempts_end` say what they do. See attempts.h.

SHIFT = 0x555555000000    // kUserShift

// What registers hold that are no pointer to the operand. attempt_state says so too.
RAX = 0x1122334455663456
RCX = 0x0f0e0d0c0b0a0903
RDX = 0x0123456789abcdef
R8 = 0x8080808080808080
R9 = 0x909
R10 = 0xa0a
R11 = 0xb0b
R12 = 0x1234567890abcdef

READ = 1
WRITE = 2
CHANGE = 3

// Registers by their numbers; FS and GS stand for their bases.
FS = 16
GS = 17
NONE = 18                       // the address is `fixed`

SSE3 = 1
CX16 = 14
SSE41 = 20
SSE42 = 21
MOVBE = 23
POPCNT = 24
AVX = 29
FMA = 13
AVX2 = 64+6               // leaf 7, EBX

AFTER = 1                       // the operand is the address of the next instruction
LOW = 2                         // addresses have 32 bits
RAX_AFTER = 4                   // RAX is, or what RDI points to
RDI_AFTER = 8
TCG_DIFFERS = 32                // QEMU's translator loses flags, or reads or writes too much
DATA = 16                       // by DS, though RBP is named

        .section .user, "ax"
        .balign 4096
        .global attempt_state
attempt_state:                  // RAX to R12 in the order of their numbers, two summands, XMM0-1
        .skip 4096

        .global attempt_near
attempt_near:                   // pages that RIP-relative operands are in
        .skip 8192

        .section .rodata.attempts, "a"
        .balign 8
        .global attempts
attempts:

        .macro try access, size, instruction, reg=3, bias=0, fill=0, align=1, need=0, flags=0, fixed=0, before, after
        .section .user
.Lloop\@:
        mov attempt_state(%rip), %rax
        mov attempt_state+8(%rip), %rcx
        mov attempt_state+16(%rip), %rdx
        mov attempt_state+24(%rip), %rbx
        mov attempt_state+32(%rip), %rsp
        mov attempt_state+40(%rip), %rbp
        mov attempt_state+48(%rip), %rsi
        mov attempt_state+56(%rip), %rdi
        mov attempt_state+64(%rip), %r8
        mov attempt_state+72(%rip), %r9
        mov attempt_state+80(%rip), %r10
        mov attempt_state+88(%rip), %r11
        mov attempt_state+96(%rip), %r12
        movups attempt_state+128(%rip), %xmm0
        movups attempt_state+144(%rip), %xmm1
        mov attempt_state+104(%rip), %r13
        \before
        add attempt_state+112(%rip), %r13       // flags to live
.Lfault\@:
        \instruction
77:
.Lafter\@:
        \after
        mov %rax, %r13
        lahf
        seto %al
        mov %rax, %r14
        mov %r13, %rax
        dec %r15
        jnz .Lloop\@
        int $0x80
        .section .rodata.attempts
        .quad .Lloop\@ + SHIFT, .Lfault\@ + SHIFT, .Lafter\@ + SHIFT, .Lname\@
        .quad \bias, \fill, \fixed
        .word \size
        .byte \access, \reg, \align, \need, \flags, 0
        .section .rodata
.Lname\@: .asciz "\instruction"
        .endm

        // Loads.
        try READ, 8, "mov (%rbx), %rax"
        try READ, 4, "mov (%rcx), %ecx", reg=1
        try READ, 2, "mov (%rdx), %ax", reg=2
        try READ, 1, "mov (%rsi), %al", reg=6
        try READ, 1, "mov (%rdi), %ah", reg=7
        try READ, 1, "mov (%rcx), %bh", reg=1
        try READ, 1, "mov (%rbx), %r9b"
        try READ, 1, "mov (%rbx), %sil"
        try READ, 1, "movzbl (%rbx), %eax"
        try READ, 1, "movzbw (%rbx), %r10w"
        try READ, 2, "movzwq (%r10), %r10", reg=10
        try READ, 1, "movsbq (%r9), %r11", reg=9
        try READ, 2, "movswl (%r11), %r9d", reg=11
        try READ, 4, "movslq (%r8), %r12", reg=8
        try READ, 8, "mov (%rax), %rsp", reg=0
        try READ, 8, "cmovc (%rbx), %rax"
        try READ, 4, "cmovnc (%rbx), %eax"      // reads, and clears the upper half, either way
        try READ, 4, "cmovo (%rbx), %r10d"
        try READ, 4, "movbe (%rbx), %ecx", need=MOVBE
        try WRITE, 8, "movbe %rcx, (%rbx)", need=MOVBE
        try READ, 8, "popcnt (%rbx), %rcx", need=POPCNT
        try READ, 8, "crc32q (%rbx), %rcx", need=SSE42
        try READ, 4, "bsf (%rbx), %ecx"
        try READ, 8, "lodsq", reg=6
        try READ, 1, "xlat", reg=3, bias=0x56
        // Forms of addresses.
        try READ, 8, "mov 16(%rbx,%r9,8), %r9", bias=16+8*R9
        try READ, 8, "mov -0x1234567(%r10,%r11), %rax", reg=10, bias=R11-0x1234567
        try WRITE, 8, "mov %r9, (%r11,%r10,4)", reg=11, bias=4*R10
        try CHANGE, 8, "add %r11, -8(%r9,%r10,2)", reg=9, bias=2*R10-8
        try READ, 8, "mov (%rax,%r10), %r10", reg=10, bias=RAX
        try WRITE, 4, "movl $-5, (%rdx,%r11)", reg=11, bias=RDX
        try CHANGE, 8, "xor %r10, (%r12,%r9)", reg=9, bias=R12
        try READ, 8, "mov (%r12), %rdx", reg=12
        try READ, 8, "mov (%rsp), %rax", reg=4
        try WRITE, 8, "mov %rsp, 8(%rsp)", reg=4, bias=8
        try CHANGE, 4, "subl $3, -4(%rsp,%r10,2)", reg=4, bias=2*R10-4
        try WRITE, 8, "mov %rbp, -16(%rbp)", reg=5, bias=-16
        try READ, 4, "mov 0x12345678(%rbp,%r9,4), %ebp", reg=5, bias=4*R9+0x12345678
        try READ, 8, "mov (%rax,%rbp), %rcx", reg=5, bias=RAX, flags=DATA
        try READ, 8, "mov attempt_near+4092(%rip), %r10", reg=NONE, fixed="SHIFT+attempt_near+4092"
        try WRITE, 8, "mov %r9, attempt_near+0x840(%rip)", reg=NONE, fixed="SHIFT+attempt_near+0x840"
        try CHANGE, 4, "addl $0x11223344, attempt_near+4094(%rip)", reg=NONE, fixed="SHIFT+attempt_near+4094"
        try WRITE, 2, "movw $0x1122, attempt_near+4095(%rip)", reg=NONE, fixed="SHIFT+attempt_near+4095"
        try CHANGE, 8, "lock xadd %r11, attempt_near+0x840(%rip)", reg=NONE, fixed="SHIFT+attempt_near+0x840"
        try READ, 16, "movups attempt_near+4090(%rip), %xmm0", reg=NONE, fixed="SHIFT+attempt_near+4090"
        try READ, 8, "movabs attempt_near+0x840+SHIFT, %rax", reg=NONE, fixed="SHIFT+attempt_near+0x840"
        try WRITE, 4, "movabs %eax, attempt_near+4093+SHIFT", reg=NONE, fixed="SHIFT+attempt_near+4093"
        try READ, 8, "mov %fs:16, %rax", reg=FS, bias=16
        try WRITE, 8, "mov %rcx, %fs:(%r9)", reg=FS, bias=R9
        try CHANGE, 8, "lock incq %fs:(%r10,%r11)", reg=FS, bias=R10+R11
        try READ, 8, "mov %gs:8(%r9), %r9", reg=GS, bias=8+R9
        try WRITE, 4, "movl $7, %gs:-4", reg=GS, bias=-4
        try CHANGE, 1, "notb %gs:(%r11)", reg=GS, bias=R11
        try READ, 8, "mov %gs:0, %rsp", reg=GS
        try READ, 8, "mov (%ebx), %rax", flags=LOW
        try WRITE, 8, "mov %r10, (%r9d)", reg=9, flags=LOW
        try CHANGE, 4, "orl $5, -0x123(%ecx,%r10d,2)", reg=1, bias=2*R10-0x123, flags=LOW
        try READ, 8, "mov (%eax,%r11d), %r11", reg=11, bias=RAX, flags=LOW
        try READ, 4, "addr32 lodsl", reg=6, flags=LOW
        // Stores.
        try WRITE, 8, "mov %rax, (%rbx)"
        try WRITE, 4, "mov %r10d, (%r10)", reg=10
        try WRITE, 2, "mov %r11w, (%rcx)", reg=1
        try WRITE, 1, "mov %al, (%rdx)", reg=2
        try WRITE, 1, "mov %ah, (%rbx)"
        try WRITE, 1, "mov %dh, (%rsi)", reg=6
        try WRITE, 1, "mov %dil, (%rbx)"
        try WRITE, 1, "movb $0x5a, (%rbx)"
        try WRITE, 2, "movw $0x5aa5, (%r9)", reg=9
        try WRITE, 4, "movl $0x5aa51234, (%r11)", reg=11
        try WRITE, 8, "movq $-2, (%rbx)"
        try WRITE, 8, "movnti %rcx, (%rbx)"
        try WRITE, 1, "sete (%rbx)"
        try WRITE, 1, "setno (%r10)", reg=10, flags=TCG_DIFFERS
        try WRITE, 8, "stosq", reg=7
        try WRITE, 1, "stosb", reg=7
        try READ, 8, "movsq", reg=6
        try WRITE, 4, "movsl", reg=7
        try READ, 8, "cmpsq", reg=6
        try READ, 4, "cmpsl", reg=7
        try READ, 2, "scasw", reg=7
        // Arithmetic.
        try READ, 8, "add (%rbx), %rax"
        try READ, 4, "adc (%rbx), %ecx"
        try READ, 1, "sbb (%rbx), %ch"
        try READ, 8, "cmp (%rbx), %rax"
        try READ, 4, "cmpl $0x33, (%rbx)"
        try READ, 1, "cmp %ah, (%rbx)"
        try READ, 8, "test %rcx, (%rbx)"
        try READ, 1, "testb $0x80, (%rbx)"
        // Only CF and OF, which are alike, are defined behind multiplications.
        try READ, 8, "imul (%rbx), %rcx", after="sbb %r9, %r9"
        try READ, 4, "imul $-7, (%rbx), %ecx", after="sbb %r9, %r9"
        try READ, 8, "mulq (%rbx)", after="sbb %r9, %r9"
        try READ, 4, "imull (%rbx)", after="sbb %r9, %r9"
        try READ, 8, "divq (%rbx)", fill=0xf1e2d3c4b5a69788
        try READ, 8, "idivq (%rbx)", fill=0x7fffffffffffff01
        try READ, 4, "divl (%rbx)", fill=0xf1e2d3c4
        try READ, 2, "divw (%rbx)", fill=0xf1e2
        try READ, 1, "divb (%rbx)", fill=0xf1
        try READ, 1, "idivb (%rbx)", fill=0x7f
        try CHANGE, 8, "add %rcx, (%rbx)"
        try CHANGE, 1, "add %ch, (%rbx)"
        try CHANGE, 4, "addl $1000, (%rbx)"
        try CHANGE, 8, "adc %rdx, (%rbx)"
        try CHANGE, 4, "adcl $3, (%r9)", reg=9
        try CHANGE, 8, "sbb %r10, (%rbx)"
        try CHANGE, 2, "and %cx, (%rbx)"
        try CHANGE, 8, "or %r11, (%rbx)"
        try CHANGE, 8, "incq (%rbx)"
        try CHANGE, 1, "decb (%rbx)"
        try CHANGE, 8, "notq (%rbx)"
        try CHANGE, 4, "negl (%rbx)"
        try CHANGE, 8, "xchg %rax, (%rbx)"
        try CHANGE, 1, "xchg %dh, (%rbx)"
        try CHANGE, 8, "xadd %r9, (%rbx)"
        try CHANGE, 4, "lock xadd %r10d, (%r11)", reg=11
        try CHANGE, 8, "lock incq (%rbx)"
        try CHANGE, 4, "lock andl $0x55555555, (%rbx)"
        try CHANGE, 8, "cmpxchg %rcx, (%rbx)"
        try CHANGE, 8, "cmpxchg %rcx, (%rbx)", fill=RAX
        try CHANGE, 4, "lock cmpxchg %r9d, (%rbx)"
        try CHANGE, 4, "lock cmpxchg %r9d, (%rbx)", fill=RAX
        try CHANGE, 8, "cmpxchg8b (%rsi)", reg=6, flags=TCG_DIFFERS
        try CHANGE, 8, "lock cmpxchg8b (%rsi)", reg=6, flags=TCG_DIFFERS
        try CHANGE, 16, "lock cmpxchg16b (%rsi)", reg=6, align=16, need=CX16, flags=TCG_DIFFERS
        try CHANGE, 8, "shlq (%rbx)"
        try CHANGE, 4, "sarl %cl, (%rbx)"
        try CHANGE, 2, "rolw $5, (%rbx)"
        try CHANGE, 8, "rcrq $3, (%rbx)", flags=TCG_DIFFERS
        try CHANGE, 8, "shld $9, %rdx, (%rbx)"
        try CHANGE, 4, "shrd %cl, %edx, (%rbx)"
        try READ, 8, "btq $9, (%rbx)", flags=TCG_DIFFERS
        try READ, 8, "bt %r9, (%rbx)", bias=8*(R9>>6), flags=TCG_DIFFERS
        try CHANGE, 8, "btsq $62, (%rbx)", flags=TCG_DIFFERS
        try CHANGE, 8, "bts %r10, (%rbx)", bias=8*(R10>>6), flags=TCG_DIFFERS
        try CHANGE, 4, "btr %r11d, (%rbx)", bias=4*(R11>>5), flags=TCG_DIFFERS
        try CHANGE, 8, "lock btcq $1, (%rbx)", flags=TCG_DIFFERS
        // The stack.
        try WRITE, 8, "push %rax", reg=4, bias=-8
        try WRITE, 8, "push %rsp", reg=4, bias=-8
        try WRITE, 8, "push %r10", reg=4, bias=-8
        try WRITE, 8, "push $5", reg=4, bias=-8
        try WRITE, 8, "push $-0x12345678", reg=4, bias=-8
        try WRITE, 2, "pushw %ax", reg=4, bias=-2
        try READ, 8, "pushq (%rbx)"
        try WRITE, 8, "pushq (%rbx)", reg=4, bias=-8
        try WRITE, 8, "pushfq", reg=4, bias=-8
        try READ, 8, "pop %rax", reg=4
        try READ, 8, "pop %rsp", reg=4
        try READ, 8, "pop %r11", reg=4
        try READ, 2, "popw %ax", reg=4
        try READ, 8, "popq (%rbx)", reg=4
        try WRITE, 8, "popq (%rbx)"
        try READ, 8, "popfq", reg=4, fill=0xcd7
        try READ, 8, "leave", reg=5
        try WRITE, 8, "enter $0, $0", reg=4, bias=-8
        try WRITE, 8, "call 77f", reg=4, bias=-8
        try WRITE, 8, "call *%rax", reg=4, bias=-8, flags=RAX_AFTER
        try READ, 8, "call *(%rbx)", flags=AFTER
        try WRITE, 8, "call *(%rdi)", reg=4, bias=-8, flags=RDI_AFTER
        try READ, 8, "jmp *(%rbx)", flags=AFTER
        try READ, 8, "jmp *-8(%r10,%r9,8)", reg=10, bias=8*R9-8, flags=AFTER
        try READ, 8, "ret", reg=4, flags=AFTER
        try READ, 8, "ret $24", reg=4, flags=AFTER
        // SSE.
        try READ, 16, "movaps (%rbx), %xmm2", align=16
        try WRITE, 16, "movaps %xmm0, (%rbx)", align=16
        try READ, 16, "movups (%rbx), %xmm2"
        try WRITE, 16, "movups %xmm0, (%r9)", reg=9, flags=TCG_DIFFERS
        try READ, 16, "movdqa (%r10), %xmm9", reg=10, align=16
        try WRITE, 16, "movdqu %xmm1, (%rbx)", flags=TCG_DIFFERS
        try READ, 16, "lddqu (%rbx), %xmm3", need=SSE3
        try READ, 4, "movss (%rbx), %xmm0"
        try WRITE, 4, "movss %xmm0, (%rbx)"
        try READ, 8, "movsd (%rbx), %xmm0"
        try WRITE, 8, "movlps %xmm1, (%rbx)"
        try WRITE, 8, "movhps %xmm0, (%rbx)"
        try READ, 8, "movhpd (%rbx), %xmm1"
        try READ, 4, "movd (%rbx), %xmm0"
        try WRITE, 8, "movq %xmm0, (%rbx)"
        try READ, 16, "addps (%rbx), %xmm0", align=16
        try READ, 16, "paddd (%rbx), %xmm0", align=16
        try READ, 16, "pshufd $0x1b, (%rbx), %xmm0", align=16
        try READ, 16, "pxor (%r11), %xmm1", reg=11, align=16
        try READ, 4, "addss (%rbx), %xmm0"
        try READ, 8, "mulsd (%rbx), %xmm0"
        try READ, 8, "ucomisd (%rbx), %xmm0"
        try READ, 8, "cvtsi2sdq (%rbx), %xmm0"
        try READ, 8, "cvttsd2si (%rbx), %rax"
        try READ, 2, "pinsrw $3, (%rbx), %xmm0"
        try WRITE, 4, "pextrd $1, %xmm0, (%rbx)", need=SSE41
        try WRITE, 16, "movntdq %xmm0, (%rbx)", align=16
        try WRITE, 16, "movntps %xmm0, (%rbx)", align=16
        try READ, 4, "ldmxcsr (%rbx)", fill=0x1fbf
        try WRITE, 4, "stmxcsr (%rbx)"
        // AVX.
        try READ, 32, "vmovups (%rbx), %ymm2", need=AVX, after="vextractf128 $1, %ymm2, %xmm3"
        try WRITE, 32, "vmovups %ymm0, (%rbx)", need=AVX, before="vinsertf128 $1, %xmm1, %ymm0, %ymm0", flags=TCG_DIFFERS
        try READ, 32, "vmovaps (%rbx), %ymm2", need=AVX, align=32, after="vextractf128 $1, %ymm2, %xmm3"
        try READ, 32, "vaddps (%rbx), %ymm0, %ymm4", need=AVX, after="vextractf128 $1, %ymm4, %xmm3"
        try READ, 16, "vpaddd (%r9), %xmm1, %xmm2", need=AVX, reg=9
        try READ, 4, "vbroadcastss (%r10), %ymm2", need=AVX, reg=10
        try WRITE, 16, "vextractf128 $1, %ymm0, (%rbx)", need=AVX, flags=TCG_DIFFERS
        // Lanes that are masked out touch nothing.
        try READ, 8, "vmaskmovps (%rbx), %xmm5, %xmm2", need=AVX, before="pcmpeqd %xmm5, %xmm5; psrldq $8, %xmm5", flags=TCG_DIFFERS
        try WRITE, 8, "vmaskmovps %xmm0, %xmm5, (%rbx)", need=AVX, before="pcmpeqd %xmm5, %xmm5; psrldq $8, %xmm5", flags=TCG_DIFFERS
        try READ, 16, "vmaskmovpd (%rbx), %ymm5, %ymm2", need=AVX, before="vpcmpeqd %xmm5, %xmm5, %xmm5", flags=TCG_DIFFERS
        try READ, 8, "vpmaskmovq (%r9), %xmm5, %xmm2", reg=9, need=AVX2, before="pcmpeqd %xmm5, %xmm5; psrldq $8, %xmm5", flags=TCG_DIFFERS
        try WRITE, 4, "vpmaskmovd %ymm0, %ymm5, (%r10)", reg=10, need=AVX2, before="pcmpeqd %xmm5, %xmm5; psrldq $12, %xmm5", flags=TCG_DIFFERS
        try READ, 4, "vpgatherdd %xmm5, (%rbx,%xmm6,4), %xmm2", need=AVX2, before="pcmpeqd %xmm5, %xmm5; pxor %xmm6, %xmm6"
        try READ, 8, "vgatherqpd %ymm5, (%r11,%ymm6,8), %ymm2", reg=11, need=AVX2, before="pcmpeqd %xmm5, %xmm5; pxor %xmm6, %xmm6"
        try READ, 8, "vfmadd231sd (%rbx), %xmm1, %xmm0", need=FMA, flags=TCG_DIFFERS
        // Whole states.
        try WRITE, 512, "fxsave64 (%rbx)", align=16, flags=TCG_DIFFERS
        try WRITE, 28, "fnstenv (%rbx)", before="fninit", flags=TCG_DIFFERS
        try WRITE, 108, "fnsave (%rbx)", before="fninit", flags=TCG_DIFFERS
        // x87.
        try READ, 4, "flds (%rbx)", before="fninit"
        try READ, 8, "fldl (%rbx)", before="fninit"
        try READ, 10, "fldt (%rbx)", before="fninit"
        try READ, 8, "fildll (%rbx)", before="fninit"
        try READ, 4, "fadds (%r9)", reg=9, before="fninit; fldpi"
        try READ, 8, "fcoml (%rbx)", before="fninit; fldpi"
        try WRITE, 4, "fsts (%rbx)", before="fninit; fldpi"
        try WRITE, 8, "fstpl (%rbx)", before="fninit; fldpi"
        try WRITE, 10, "fstpt (%rbx)", before="fninit; fldpi", flags=TCG_DIFFERS
        try WRITE, 8, "fistpll (%rbx)", before="fninit; fldpi"
        try WRITE, 2, "fistps (%rbx)", before="fninit; fldpi"
        try WRITE, 10, "fbstp (%rbx)", before="fninit; fldpi", flags=TCG_DIFFERS
        try READ, 2, "fldcw (%rbx)", fill=0x27f, before="fninit"
        try WRITE, 2, "fnstcw (%rbx)", before="fninit"
        try WRITE, 2, "fnstsw (%rbx)", before="fninit; fldpi"

        .section .rodata.attempts
        .global attempts_end
attempts_end:
        .section .note.GNU-stack, "", @progbits
