; A Multiboot guest that touches every port and much of the memory map in every size, whether anybody
; is there or not. What its command line names, one letter after the other:
;
;   r   read each port: 1, 2 and 4 bytes at every address
;   w   write each port so, except those that end the machine
;   s   string instructions at ports, up and down, from and to RAM and where nothing is
;   m   memory where nobody is: 16 MiB to 4 GiB at every 64 KiB, 1 to 16 bytes, across pages
;   d   memory of devices, byte by byte: the VGA hole, the BIOS, IOAPIC, HPET, local APIC
;   x   locked and x87 instructions, calls, stacks, jumps and tables where nothing is
;   l   a string instruction that goes on for ever
;   p   paging with tables where nothing is: a triple fault
;
; Then it sets COM1 up again, prints "swept" and ends by the debug-exit port with 0; an exception that
; was not expected ends it with 1.

bits 32

MAGIC      equ 0x1BADB002
FLAGS      equ 0x00000003
COM1       equ 0x3F8
DEBUG_EXIT equ 0xF4
HOLE       equ 0xD0000000        ; nobody is there
LAPIC      equ 0xFEE00000

section .multiboot align=4
  dd MAGIC, FLAGS, -(MAGIC + FLAGS)

section .text
global _start
_start:
  cli
  mov esp, stack_top
  lgdt [gdt_pointer]
  jmp 8:.flat
.flat:
  mov ax, 16
  mov ds, ax
  mov es, ax
  mov ss, ax
  call fill_idt
  lidt [idt_pointer]
  mov eax, cr0                   ; SSE and x87 are there
  and eax, ~0xC
  or eax, 0x22
  mov cr0, eax
  mov eax, cr4
  or eax, 0x600
  mov cr4, eax
  mov esi, [ebx + 16]
next:
  cld
  mov esp, stack_top
  lodsb
  push esi
  mov edi, commands
.find:
  mov ah, [edi]
  test ah, ah
  jz .skip
  cmp ah, al
  je .found
  add edi, 5
  jmp .find
.found:
  call [edi + 1]
.skip:
  pop esi
  cmp byte [esi], 0
  jne next

; 115200 baud, 8N1, no loopback: whatever the sweep has left there
  mov dx, COM1 + 1
  mov edi, uart_setup
  mov ecx, (uart_setup_end - uart_setup) / 2
.setup:
  movzx edx, byte [edi]
  add edx, COM1
  mov al, [edi + 1]
  out dx, al
  add edi, 2
  loop .setup
  mov edi, swept_text
.print:
  mov dx, COM1 + 5
  in al, dx
  test al, 0x20
  jz .print
  mov dx, COM1
  mov al, [edi]
  test al, al
  jz .end
  out dx, al
  inc edi
  jmp .print
.end:
  xor eax, eax
end:
  out DEBUG_EXIT, al
  jmp $

%macro command 2
  db %1
  dd %2
%endmacro
section .rodata
commands:
  command 'r', read_ports
  command 'w', write_ports
  command 's', string_ports
  command 'm', holes
  command 'd', devices
  command 'x', odd_instructions
  command 'l', long_string
  command 'p', tables_in_a_hole
  db 0
; register, value: LCR, IER, DLL, DLM, LCR, FCR, MCR
uart_setup: db 3, 0x80, 0, 1, 1, 0, 3, 3, 1, 0, 2, 7, 4, 3
uart_setup_end:
swept_text: db "swept", 13, 10, 0
; First and last of the ports that end, reset or stop the machine: debug exit, 8042 commands, fast
; reset, pvpanic, PM1 control, PCI configuration (which moves the others about) and reset control.
ending_ports:
  dw 0x64, 0x64, 0x92, 0x92, 0xF4, 0xF7, 0x505, 0x505, 0x604, 0x605, 0xCF8, 0xCFF, 0
values: dd 0, 0xFFFFFFFF, 0x5A5A5A5A
; First byte, bytes
device_windows:
  dd 0xA0000, 0x2000, 0xC0000, 0x1000, 0xE0000, 0x1000, 0xFF000, 0x1000
  dd 0xFEC00000, 0x1000, 0xFED00000, 0x400, LAPIC, 0x1000, 0xFFFFF000, 0xFF0, 0
align 8
gdt: dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer: dw 23
             dd gdt
idt_pointer: dw 256 * 8 - 1
             dd idt

section .text
; What the exceptions do: goes on at [resume] if that is set.
fill_idt:
  mov edi, idt
  mov eax, unexpected
  mov ecx, 32
  call .gates
  mov eax, interrupted
  mov ecx, 224
.gates:
  mov [edi], ax
  mov word [edi + 2], 8
  mov word [edi + 4], 0x8E00
  mov edx, eax
  shr edx, 16
  mov [edi + 6], dx
  add edi, 8
  loop .gates
  ret
unexpected:
  mov eax, [resume]
  mov dword [resume], 0
  mov esp, [resume_stack]
  test eax, eax
  jz .fail
  jmp eax
.fail:
  mov al, 1
  jmp end
interrupted:
  iretd

; ---- Ports.

%macro each_port 1               ; %1: what to do with the one in DX
  xor ebp, ebp
%%next:
  mov edx, ebp
  call %1
  inc ebp
  cmp ebp, 0x10000
  jne %%next
  ret
%endmacro

read_ports:
  each_port .read
.read:
  in al, dx
  in ax, dx
  in eax, dx
  ret

write_ports:
  each_port .write
.write:
  mov ecx, 3
.value:
  mov eax, [values + ecx * 4 - 4]
  mov ebx, 1
  call may_write
  jc .word
  out dx, al
.word:
  mov ebx, 2
  call may_write
  jc .dword
  out dx, ax
.dword:
  mov ebx, 4
  call may_write
  jc .done
  out dx, eax
.done:
  loop .value
  ret

; CF: an access of EBX bytes at DX touches a port that ends the machine.
may_write:
  push eax
  push edi
  mov edi, ending_ports
.range:
  movzx eax, word [edi]
  test eax, eax
  jz .free
  sub eax, ebx                   ; all before the first?
  cmp edx, eax
  jle .next
  movzx eax, word [edi + 2]      ; all behind the last?
  cmp edx, eax
  jg .next
  stc
  jmp .end
.next:
  add edi, 4
  jmp .range
.free:
  clc
.end:
  pop edi
  pop eax
  ret

%macro strings 1                 ; %1: the count
  mov ecx, %1
  mov edi, ebx
  rep insb
  mov ecx, %1
  mov edi, ebx
  rep insw
  mov ecx, %1
  lea edi, [ebx + 1]
  rep insd
  mov ecx, %1
  mov esi, ebx
  rep outsb
  mov ecx, %1
  mov esi, ebx
  rep outsw
  mov ecx, %1
  lea esi, [ebx + 3]
  rep outsd
%endmacro

; At some ports of devices and of nobody, odd ones too; a page and more at a time.
string_ports:
  mov ebp, string_port_list
.port:
  movzx edx, word [ebp]
  test edx, edx
  jz .end
  mov eax, string_places
.place:
  mov ebx, [eax]
  test ebx, ebx
  jz .next_port
  push eax
  cld
  strings 0
  strings 1
  strings 0x821
  std
  strings 0x107
  cld
  pop eax
  add eax, 4
  jmp .place
.next_port:
  add ebp, 2
  jmp .port
.end:
  ret
section .rodata
string_port_list: dw 0x20, 0x40, 0x60, 0x61, 0x71, 0x80, 0x3F8, 0x3FD, 0x402, 0x608, 0x701, 0x5A1
                  dw 0xC003, 0xFFFF, 0
; RAM, the end of RAM, the VGA hole, the IOAPIC, a hole, the top of memory
string_places: dd 0x400000, 0xFFF801, 0xA0800, 0xFEC00000, HOLE + 0xFFD, 0xFFFF8001, 0
section .text

; To a port that nobody has, as often as ECX can say, from memory that nobody has
long_string:
  mov edx, 0x5A0
.again:
  mov esi, HOLE
  mov ecx, -1
  rep outsb
  jmp .again

; ---- Memory.

; Every size at EBX, read, written and both.
touch:
  mov al, [ebx]
  mov ax, [ebx]
  mov eax, [ebx]
  movq mm0, [ebx]
  movups xmm0, [ebx]
  mov [ebx], al
  mov [ebx], ax
  mov [ebx], eax
  movq [ebx], mm0
  movups [ebx], xmm0
  inc byte [ebx]
  add [ebx], ax
  xor [ebx], eax
  ret

holes:
  mov ebp, 0x1000000
.next:
  cmp ebp, 0xFEC00000            ; devices have their own letter
  je .skip
  cmp ebp, 0xFED00000
  je .skip
  cmp ebp, LAPIC
  je .skip
  mov ebx, ebp
  call touch
  lea ebx, [ebp + 1]
  call touch
  lea ebx, [ebp + 0xFF9]         ; across two pages
  call touch
.skip:
  add ebp, 0x10000
  jnz .next
  ret

devices:
  mov edi, device_windows
.window:
  mov ebp, [edi]
  test ebp, ebp
  jz .end
  mov ecx, [edi + 4]
.byte:
  mov ebx, ebp
  mov eax, ebp
  and eax, 0xFFFFFFF0            ; the command register of the local APIC could stop this processor
  sub eax, LAPIC + 0x2F0
  cmp eax, 0x10
  jbe .read
  call touch
  jmp .next
.read:
  mov al, [ebx]
  mov ax, [ebx]
  mov eax, [ebx]
  movq mm0, [ebx]
.next:
  inc ebp
  loop .byte
  add edi, 8
  jmp .window
.end:
  ret

; ---- Instructions.

; Goes on at %%resume whether the instructions raise an exception or not.
%macro try 1+
  mov dword [resume], %%resume
  mov [resume_stack], esp
  %1
%%resume:
  mov dword [resume], 0
%endmacro

odd_instructions:
  mov ebx, HOLE + 0x40
  call go_there
  call touch_oddly
  mov ebx, HOLE + 0xFFC
  call go_there
  call touch_oddly
  mov ebx, 0xA0000
  call touch_oddly
  mov ebx, 0xFEC00010
  jmp touch_oddly

; All there is reads as ones: no code, no pointer and no selector that is good for anything.
go_there:
  try les ecx, [ebx]
  try call [ebx]
  try jmp [ebx]
  try call ebx
  try jmp ebx
  try call far [ebx]
  try jmp far [ebx]
  ret

touch_oddly:
  lock inc dword [ebx]
  lock xadd [ebx], eax
  xchg [ebx], eax
  lock cmpxchg [ebx], ecx
  lock cmpxchg8b [ebx]
  lock bts dword [ebx], 77
  bt [ebx], eax
  try fnsave [ebx]
  try frstor [ebx]
  fninit
  try fld tword [ebx]
  try fstp tword [ebx]
  try fild qword [ebx]
  try fbstp [ebx]
  try fldenv [ebx]
  fninit
  mov edx, ebx
  and edx, ~15
  try fxsave [edx]
  try fxrstor [edx]
  fninit
  try ldmxcsr [ebx]
  try stmxcsr [ebx]
  mov dword [saved], 0x1F80
  ldmxcsr [saved]
  try movaps xmm1, [edx]
  try movntps [edx], xmm1
  try maskmovq mm0, mm1
  try bound eax, [ebx]
  try div dword [ebx]
  sgdt [ebx]
  sidt [ebx]
  sldt [ebx]
  smsw [ebx]
  try lmsw [saved_zero]
  invlpg [ebx]
  clflush [ebx]
  prefetcht0 [ebx]
  mov [saved], esp               ; the stack where nothing is
  mov [saved_place], ebx
  lea esp, [ebx + 0x40]
  push eax
  pushad
  pop eax
  popad
  mov ebx, [saved_place]
  lea ebp, [ebx + 0x20]
  pushfd
  pop eax
  enter 32, 3
  leave
  mov esp, [saved]
  lea edi, [ebx + 3]             ; copies within the hole
  mov esi, ebx
  mov ecx, 0x1003
  rep movsb
  mov edi, ebx
  mov ecx, 0x401
  rep movsd
  mov edi, ebx
  mov ecx, 0x401
  rep stosd
  mov edi, ebx
  mov ecx, 0x401
  repe scasd
  mov esi, ebx
  mov edi, 0x400000
  mov ecx, 0x401
  repe cmpsb
  ret

tables_in_a_hole:
  mov eax, HOLE
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  jmp $

section .bss
resume: resd 1
resume_stack: resd 1
saved: resd 1
saved_zero: resd 1
saved_place: resd 1
  alignb 16
idt: resb 256 * 8
  resb 8192
stack_top:
