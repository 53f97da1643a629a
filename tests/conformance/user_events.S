// The programs of user_events.cc. They end with INT 0x80, or at `unexpected`.

        .section .user, "ax"
        .global spin_registers, spin_memory, spin_indirect, spin_calls, spin_still, spin_stores
        // Until the kernel sets R15. RBX counts the rounds.
spin_registers:
        lea   (%rbx,%rbx,2), %rcx
        add   $3, %rax
        stc
        lea   1(%rbx), %rbx
        adc   $0, %rdx              // the carry outlives what interrupts
        paddq %xmm1, %xmm0
        test  %r15, %r15
        jz    spin_registers
        int   $0x80
spin_memory:
        incq  (%rdi)
        mov   (%rdi), %rax
        mov   %eax, %ecx
        and   $255, %ecx
        mov   %rax, 8(%rdi,%rcx,8)
        inc   %rbx
        cmp   8(%rdi,%rcx,8), %rbx
        jne   unexpected
        test  %r15, %r15
        jz    spin_memory
        int   $0x80
spin_indirect:
        mov   %ebx, %ecx
        and   $3, %ecx
        lea   1f(%rip), %rdx
        lea   (%rdx,%rcx,8), %rdx
        jmp   *%rdx
        .balign 8
1:      inc   %r8
        jmp   2f
        .balign 8
        inc   %r9
        jmp   2f
        .balign 8
        inc   %r10
        jmp   2f
        .balign 8
        inc   %r11
        jmp   2f
2:      inc   %rbx
        test  %r15, %r15
        jz    spin_indirect
        int   $0x80
spin_calls:
        call  1f
        inc   %rbx
        test  %r15, %r15
        jz    spin_calls
        int   $0x80
1:      push  %rbx
        call  2f
        pop   %rcx
        cmp   %rcx, %rbx
        jne   unexpected
        ret
2:      inc   %rax
        ret
spin_still:
        jmp   spin_still
spin_stores:
        mov   %rdi, %rdx
        mov   $4096, %ecx
        mov   %ebx, %eax
        rep   stosb
        mov   %rdx, %rdi
        mov   $4096, %ecx
        repe  scasb
        jne   unexpected
        mov   %rdx, %rdi
        inc   %rbx
        test  %r15, %r15
        jz    spin_stores
        int   $0x80
unexpected:
        ud2

        .global system_calls, steps, steps_end, stops, stops_at, popf_steps, watched, watched_1
        .global watched_2, flags, returns, queries
        .global misaligned, misaligned_at, devices, task_priority, own_base
system_calls:                   // RSI rounds
        mov   %rbx, %rdi
        cmp   %rbx, %rbx            // ZF
        stc
        syscall
1:      jnc   unexpected
        jnz   unexpected
        lea   1b(%rip), %rdx
        cmp   %rcx, %rdx
        jne   unexpected
        and   $0x41, %r11d
        cmp   $0x41, %r11d
        jne   unexpected
        lea   7(%rbx,%rbx,2), %rdx
        cmp   %rax, %rdx
        jne   unexpected
        inc   %rbx
        dec   %rsi
        jnz   system_calls
        int   $0x80

steps:
1:      incq  (%rdi)
2:      push  %rax
3:      call  5f
4:      jmp   7f
5:      lea   8f(%rip), %r8
6:      ret
7:      pop   %rax
        jmp   *%r8
8:      dec   %rsi
9:      jnz   1b
steps_end:
        int   $0x80
        .pushsection .rodata
        .global step_order
step_order:                     // where each step ends
        .quad 2b, 3b, 5b, 6b, 4b, 7b, 7b + 1, 8b, 9b, 1b
        .popsection
stops:
        mov   %rdi, (%rdi)
stops_at:
        int3
        inc   %rbx
        dec   %rsi
        jnz   stops
        int   $0x80
popf_steps:
        pushfq
        orl   $0x100, (%rsp)
        popfq
        nop
        pushfq
        andl  $~0x100, (%rsp)
        popfq
        inc   %rbx
        dec   %rsi
        jnz   popf_steps
        int   $0x80
watched:
        incq  (%rdi)
watched_1:
        mov   8(%rdi), %rax
watched_2:
        mov   %rax, 16(%rdi)
        dec   %rsi
        jnz   watched
        int   $0x80
flags:                          // POPF of RDX, RSI times; then what they are
        push  %rdx
        popfq
        pushfq
        pop   %rax
        push  $2
        popfq
        dec   %rsi
        jnz   flags
        int   $0x80
returns:                        // IRET and far RET without a change of privilege
        mov   %rsp, %r8
        mov   %ss, %eax
        push  %rax
        push  %r8
        pushfq
        mov   %cs, %ecx
        push  %rcx
        lea   1f(%rip), %rax
        push  %rax
        iretq
        ud2
1:      cmp   %rsp, %r8
        jne   unexpected
        push  %rcx
        lea   2f(%rip), %rax
        push  %rax
        lretq
        ud2
2:      cmp   %rsp, %r8
        jne   unexpected
        dec   %rsi
        jnz   returns
        int   $0x80
queries:                        // CPUID, leaf 0, and a TSC that goes on
        rdtsc
        shl   $32, %rdx
        or    %rdx, %rax
        cmp   %rdi, %rax
        jb    unexpected
        mov   %rax, %rdi
        xor   %eax, %eax
        xor   %ecx, %ecx
        cpuid
        dec   %rsi
        jnz   queries
        int   $0x80
misaligned:                     // with AC set
        pushfq
        orl   $0x40000, (%rsp)
        popfq
1:      mov   (%rdi), %rax
        add   %rdx, %rdi
        dec   %rsi
        jnz   1b
        movq  %rbx, %xmm0
misaligned_at:
        mov   1(%rdi), %rbx
        ud2
devices:                        // through four pointers in turn, RSI times: their sum
        mov   %esi, %ecx
        and   $3, %ecx
        mov   (%rdi,%rcx,8), %rdx
        mov   (%rdx), %eax
        add   %rax, %rbx
        dec   %rsi
        jnz   devices
        int   $0x80
task_priority:                  // RSI down to 1, by three kinds of write
        mov   %esi, %eax
        and   $0xff, %eax
        mov   %eax, (%rdi)
        mov   (%rdi), %ecx
        cmp   %eax, %ecx
        jne   unexpected
        xorl  $0x30, (%rdi)
        xor   $0x30, %eax
        mov   %eax, %ecx
        xchg  %eax, (%rdi)
        cmp   %eax, %ecx
        jne   unexpected
        dec   %esi
        jnz   task_priority
        int   $0x80
own_base:                       // RSI rounds of WRFSBASE and WRGSBASE; RDX and RDI are two pages
        wrfsbase %rdx
        wrgsbase %rdi
        add   %fs:8, %rbx
        addq  $1, %gs:8
        xchg  %rdx, %rdi
        rdfsbase %rax
        cmp   %rax, %rdi
        jne   unexpected
        dec   %rsi
        jnz   own_base
        int   $0x80

        // What CPL 3 may not do, in loops of RSI rounds: the kernel goes on behind it.
        .macro forbidden vector, error, text:vararg
        .Lloop\@:
        .Lat\@:
        \text
        .Lnext\@:
        dec   %rsi
        jnz   .Lloop\@
        int   $0x80
        .pushsection .rodata.forbidden, "a"
        .quad .Lat\@, .Lnext\@, \vector, \error, .Lname\@
        .popsection
        .pushsection .rodata
        .Lname\@: .asciz "\text"
        .popsection
        .endm
        .pushsection .rodata.forbidden, "a"
        .balign 8
        .global forbidden_begin, forbidden_end
forbidden_begin:
        .popsection
        .irp  text, cli, sti, hlt, clts, invd, wbinvd, rdmsr, wrmsr, swapgs, sysretq, insb, outsl
        forbidden 13, 0, \text
        .endr
        forbidden 13, 0, in $0x80, %al
        forbidden 13, 0, out %eax, %dx
        forbidden 13, 0, mov %cr0, %rax
        forbidden 13, 0, mov %rax, %cr3
        forbidden 13, 0, mov %cr8, %r9
        forbidden 13, 0, mov %dr7, %rax
        forbidden 13, 0, mov %rax, %dr0
        forbidden 13, 0, invlpg (%rdi)
        forbidden 13, 0, lgdt (%rdi)
        forbidden 13, 0, lidt (%rdi)
        forbidden 13, 0, lldt %ax
        forbidden 13, 0, ltr %ax
        forbidden 13, 0, lmsw %ax
        forbidden 13, 0x82, int $0x10
        forbidden 13, 0x1a, int3
        forbidden 13, 0x6a, int $13
        forbidden 6, 0, ud2
        forbidden 6, 0, .byte 0x06
        forbidden 6, 0, .byte 0xf0, 0x90
        forbidden 0, 0, divl %r14d
        forbidden 0, 0, idivb %r14b
        .pushsection .rodata.forbidden, "a"
forbidden_end:
        .popsection

        .section .text
        .global syscall_entry
syscall_entry:
        mov   %rsp, syscall_rsp
        mov   $syscall_stack_end, %rsp
        push  %rcx
        push  %r11
        incq  syscall_count
        lea   7(%rdi,%rdi,2), %rax
        mov   $0x5ca1ab1e, %edx
        pop   %r11
        pop   %rcx
        mov   syscall_rsp, %rsp
        sysretq
        .pushsection .bss
        .global syscall_count
syscall_rsp: .quad 0
syscall_count: .quad 0
        .skip 256
syscall_stack_end:
        .popsection
        .section .note.GNU-stack, "", @progbits
