// The programs of user_fpu.cc. They end with INT 0x80, or at `wrong`.

        .section .user, "ax"
        .global sums, rounds, small, divides, divide_at, divides_x87, divide_x87_at, wait_at
        .global images, pointers, pointer_at, pending, pending_at, uses_x87, uses_mmx, uses_sse
        .global uses_avx, keeps_avx, images_avx
wrong:  ud2

        // RSI rounds, each with a call to the kernel: 8(RDI), a double, summed up in ST0 and, as
        // often, in XMM0 to XMM15. In the end ST0 goes to 16(RDI) and XMM0 and XMM15 follow it.
sums:
        fninit
        fldz
        xorps %xmm0, %xmm0
        .irp  n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movaps %xmm0, %xmm\n
        .endr
1:      faddl 8(%rdi)
        .irp  n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        addsd 8(%rdi), %xmm\n
        .endr
        int   $0x81
        ucomisd %xmm0, %xmm15
        jne   wrong
        jp    wrong
        dec   %rsi
        jnz   1b
        fstpl 16(%rdi)
        movsd %xmm0, 24(%rdi)
        movsd %xmm15, 32(%rdi)
        int   $0x80

        // x87's control word is the lower half of EDX, MXCSR is ECX; they and what they say of 2.5
        // outlive RSI calls to the kernel. EAX and EBX: 2.5 as integers.
rounds:
        mov   %ecx, 16(%rdi)
        mov   %dx, 20(%rdi)
        fninit
        fldcw 20(%rdi)
        ldmxcsr 16(%rdi)
1:      cvtsd2si 8(%rdi), %eax
        fldl  8(%rdi)
        fistpl 24(%rdi)
        mov   24(%rdi), %ebx
        int   $0x81
        stmxcsr 28(%rdi)
        mov   28(%rdi), %r8d
        and   $~0x3f, %r8d              // without the flags
        cmp   %r8d, 16(%rdi)
        jne   wrong
        fnstcw 28(%rdi)
        cmp   %dx, 28(%rdi)
        jne   wrong
        dec   %rsi
        jnz   1b
        int   $0x80

        // A product that is denormal, with MXCSR as in ECX: RAX.
small:
        mov   %ecx, 16(%rdi)
        ldmxcsr 16(%rdi)
1:      movsd 8(%rdi), %xmm0
        mulsd 24(%rdi), %xmm0
        movq  %xmm0, %rax
        dec   %rsi
        jnz   1b
        int   $0x80

        // RSI divisions by zero with MXCSR as in ECX. RBX counts.
divides:
        mov   %ecx, 16(%rdi)
        xorps %xmm1, %xmm1
1:      ldmxcsr 16(%rdi)
        movsd 8(%rdi), %xmm0
        cmp   %rcx, %rcx
divide_at:
        divsd %xmm1, %xmm0
        jne   wrong
        movq  %xmm0, %rax
        inc   %rbx
        dec   %rsi
        jnz   1b
        int   $0x80

        // The same by x87; its exception comes with what follows.
divides_x87:
        mov   %ecx, 16(%rdi)
1:      fninit
        fldcw 16(%rdi)
        fldz
divide_x87_at:
        fdivrl 8(%rdi)
        fnstsw %ax
        mov   %eax, %edx
        cmp   %rcx, %rcx
wait_at:
        fldpi
        jne   wrong
        inc   %rbx
        dec   %rsi
        jnz   1b
        int   $0x80

        // All there is of x87 and SSE goes to 64(RDI), is lost and comes back, RSI times.
images:
        fninit
        fldpi
        fldl  8(%rdi)
        movq  %rsi, %xmm3
        movq  %rdi, %xmm12
1:      fxsave64 64(%rdi)
        fninit
        xorps %xmm3, %xmm3
        xorps %xmm12, %xmm12
        fxrstor64 64(%rdi)
        movq  %xmm12, %rax
        cmp   %rax, %rdi
        jne   wrong
        fcoml 8(%rdi)
        fnstsw %ax
        and   $0x4500, %eax
        cmp   $0x4000, %eax             // equal
        jne   wrong
        dec   %rsi
        jnz   1b
        movq  %xmm3, %rax
        int   $0x80

        // What x87 says of where it was.
pointers:
        fninit
pointer_at:
        fldl  8(%rdi)
        fxsave64 64(%rdi)
        dec   %rsi
        jnz   pointers
        int   $0x80
pending:                                // with an exception that is not masked
        fninit
        movw  $0x37b, 16(%rdi)
        fldcw 16(%rdi)
        fld1
pending_at:
        fdivl 24(%rdi)
        fxsave64 64(%rdi)
        fnclex
        dec   %rsi
        jnz   pending
        int   $0x80

        // One instruction of each kind.
uses_x87:
        fldz
        fstp  %st(0)
        dec   %rsi
        jnz   uses_x87
        int   $0x80
uses_mmx:
        paddd %mm1, %mm0
        emms
        dec   %rsi
        jnz   uses_mmx
        int   $0x80
uses_sse:
        addps %xmm1, %xmm0
        dec   %rsi
        jnz   uses_sse
        int   $0x80
uses_avx:
        vaddps %ymm1, %ymm0, %ymm0
        dec   %rsi
        jnz   uses_avx
        int   $0x80

        // Both halves of YMM0 and YMM15 count, RSI calls long.
keeps_avx:
        vbroadcastsd 8(%rdi), %ymm1
        vxorps %ymm0, %ymm0, %ymm0
        vmovaps %ymm0, %ymm15
1:      vaddpd %ymm1, %ymm0, %ymm0
        vaddpd %ymm1, %ymm15, %ymm15
        int   $0x81
        dec   %rsi
        jnz   1b
        vmovupd %ymm0, 16(%rdi)
        vmovupd %ymm15, 48(%rdi)
        vzeroupper
        int   $0x80

        // As `images`, by XSAVE to 1024(RDI).
images_avx:
        xor   %ecx, %ecx
        xgetbv
        cmp   $7, %eax
        jne   wrong
        vbroadcastsd 8(%rdi), %ymm3
        vbroadcastsd 8(%rdi), %ymm14
1:      xsave64 1024(%rdi)
        vzeroall
        xrstor64 1024(%rdi)
        vextractf128 $1, %ymm3, %xmm0
        vpsubq %xmm14, %xmm0, %xmm0
        vptest %xmm0, %xmm0
        jnz   wrong
        and   $~4, %eax                 // without AVX its upper half is not touched
        xrstor64 1024(%rdi)
        mov   $7, %eax
        vextractf128 $1, %ymm14, %xmm0
        movq  %xmm0, %r8
        cmp   %r8, 8(%rdi)
        jne   wrong
        dec   %rsi
        jnz   1b
        vzeroupper
        int   $0x80
        .section .note.GNU-stack, "", @progbits
