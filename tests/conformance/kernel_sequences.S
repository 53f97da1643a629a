// Sequences of accesses that a translator may treat as one, at CPL 0: RDI is around the end of a page,
// RSI around that of another one. Each ends with INT 0x80. See kernel_faults.cc.

FRAME = 1                       // one of IRETQ is at RDI
SMAP = 2                        // has to have it
TCG_DIFFERS = 4                 // QEMU's translator loses flags

        .section .rodata.sequences, "a"
        .balign 8
        .global sequences
sequences:

        .macro sequence name, flags=0
        .section .rodata.sequences
        .quad \name, .Lname\@, \flags
        .section .rodata
.Lname\@: .asciz "\name"
        .text
\name:
        .endm

// Fields of a structure: one look-up for all, with flags that live from one to the next.
        sequence fields
        mov (%rdi), %eax
        add %rax, %r8
        mov %r8, 8(%rdi)
        adc $0, %r9
        movb $7, 3(%rdi)
        sbb -16(%rdi), %r10
        sete 20(%rdi)
        cmovc -24(%rdi), %r11
        adcl $3, 16(%rdi)
        movzwl 30(%rdi), %ecx
        lea 24(%rdi), %rdi
        xadd %rcx, (%rdi)
        neg %rcx
        rclw $3, -4(%rdi)
        setc %al
        int $0x80

// A stack frame, with a call into the same page and back.
        sequence frame
        mov %rdi, %rsp
        call 1f
        jmp 3f
1:      push %rbp
        mov %rsp, %rbp
        push %rbx
        sub $24, %rsp
        mov %r8, (%rsp)
        cmp %r8, %r9
        pushq 8(%rbp)
        call 2f
        pop %rax
        adc %rax, -16(%rbp)
        leave
        ret
2:      mov 16(%rsp), %rdx
        push $-3
        pop %rcx
        ret $0
3:      mov -32(%rsp), %rsi
        int $0x80

// Both sides of a jump, and what follows them, with and without the accesses.
        sequence paths
        mov $4, %ecx
1:      test %ecx, %r9d
        jz 2f
        add %rcx, (%rdi)
        jc 3f
        mov 8(%rdi), %rax
        jmp 3f
2:      mov %rcx, 16(%rdi)
        xor %rax, 4(%rdi)
        js 3f
        incl 12(%rdi)
3:      lea 5(%rdi), %rdi
        rol $7, %r9
        shr $1, %ecx
        jnz 1b
        int $0x80

        sequence walk
        mov $12, %ecx
1:      mov (%rdi), %rax
        add %rax, %r8
        mov %r8, 4(%rdi)
        add $8, %rdi
        dec %ecx
        jnz 1b
        int $0x80

        sequence vectors
        movups (%rdi), %xmm0
        paddd %xmm0, %xmm1
        movss 12(%rdi), %xmm2
        movups %xmm1, 16(%rdi)
        ucomiss %xmm0, %xmm2
        setp %al
        movsd %xmm2, 32(%rdi)
        cvttss2si (%rdi), %rcx
        movhps 24(%rdi), %xmm1
        movq %xmm1, -8(%rdi)
        int $0x80

        sequence aligned
        lea 8(%rdi), %rdx
        and $-16, %rdx
        movaps (%rdx), %xmm0
        pxor 16(%rdx), %xmm0
        movaps %xmm0, 32(%rdx)
        mov (%rdi), %rax
        movntdq %xmm0, -16(%rdx)
        addps (%rdi), %xmm1
        int $0x80

        sequence stacked
        fninit
        fldl (%rdi)
        fadds 8(%rdi)
        fistpll 12(%rdi)
        fildl 20(%rdi)
        fstpt (%rdi)
        fnstsw -2(%rdi)
        fnstcw 30(%rdi)
        int $0x80

        sequence locked, TCG_DIFFERS
        lock incl (%rdi)
        lock xadd %r8, 4(%rdi)
        lock cmpxchg %r9, 8(%rdi)
        setz %cl
        lock btsl $5, 16(%rdi)
        setc %dl
        xchg %r10, 20(%rdi)
        lock cmpxchg8b 24(%rdi)
        int $0x80

        sequence bits
        mov $77, %ecx
        stc
        bt %rcx, (%rdi)
        setc %al
        bts %ecx, (%rdi)
        adc $0, %r8
        lock btr %rcx, -4(%rdi)
        adc $0, %r9
        mov $-70, %rdx
        btc %rdx, 16(%rdi)
        adc $0, %r10
        mov $-21, %ecx
        bts %cx, 12(%rdi)
        setc %bl
        int $0x80

        sequence divides
        xor %edx, %edx
        mov %r8d, %eax
        divl (%rdi)
        cqo
        idivl 4(%rdi)
        mov $1, %edx
        divq 8(%rdi)
        int $0x80

        sequence moves
        mov $60, %ecx
        rep movsb
        mov $5, %ecx
        rep movsq
        int $0x80

        sequence moves_down
        mov $40, %ecx
        std
        rep movsb
        mov $9, %ecx
        rep movsl
        cld
        int $0x80

        sequence stores
        mov $61, %ecx
        mov %r8, %rax
        rep stosb
        mov $7, %ecx
        rep stosq
        mov $5, %ecx
        rep stosl
        int $0x80

        sequence scans
        mov $50, %ecx
        repe cmpsb
        mov $50, %ecx
        mov $0x55, %al
        repne scasb
        lodsl
        movsw
        int $0x80

// From a frame that stands there.
        sequence returns, FRAME
        mov %rdi, %rsp
        iretq
        .global returns_after
returns_after:
        mov %rsp, %rax
        int $0x80

// A user's memory between STAC and CLAC, and behind it.
        sequence permits, SMAP
        mov %r8, %rax
        stac
        add (%rdi), %rax
        mov %rax, 8(%rdi)
        clac
        adc $0, %r9
        mov 16(%rdi), %rbx
        stac
        mov %rbx, 20(%rdi)
        movb $1, (%rsi)
        clac
        int $0x80

        .section .rodata.sequences
        .global sequences_end
sequences_end:
        .section .note.GNU-stack, "", @progbits
