; A Multiboot guest that does what its command line says, one letter after the other, so that one
; program serves all end-to-end tests. [MULTIBOOT] 3.1-3.3
;
;   .      print "hello from the guest" on COM1      1 2 3 4  print a letter on COM1 to COM4
;   e      echo COM1 until a Q comes (poll LSR)
;   f      print 256 KiB of numbered lines           F        print for ever
;   P      print a Linux panic, then its end         p        print only its first line
;   v      report a panic on the pvpanic port
;   x<n>   debug exit with the digit n               o        ACPI power-off
;   b      switch ACPI on, print "waiting", wait for the power button
;   r k a  reset by port 0xCF9, by the i8042, by port 0x92
;   c      count boots in CMOS 0x70; reset by 0xCF9 until it is the third
;   t      triple fault                              h        cli; hlt
;   s      spin for ever                             i        sti; hlt with all interrupts masked
;   w      touch ports and addresses where nobody is, in every size
;   anything else is skipped; after the last letter: debug exit with 0.

bits 32

MAGIC     equ 0x1BADB002
FLAGS     equ 0x00000003        ; page-aligned modules, memory information
COM1      equ 0x3F8
LSR       equ 5
LSR_DR    equ 0x01
LSR_THRE  equ 0x20
PM1_STS   equ 0x600
PM1_CNT   equ 0x604

section .multiboot align=4
  dd MAGIC, FLAGS, -(MAGIC + FLAGS)

section .text
global _start
_start:
  cli
  mov esp, stack_top
  mov al, 0xFF                  ; both 8259s: everything masked
  out 0x21, al
  out 0xA1, al
  mov esi, empty
  test dword [ebx], 1 << 2      ; is there a command line?
  jz next
  mov esi, [ebx + 16]
next:
  lodsb
  test al, al
  jz finish
  mov edi, commands
.find:
  mov ah, [edi]
  test ah, ah
  jz next
  cmp ah, al
  je .found
  add edi, 5
  jmp .find
.found:
  push dword next
  jmp [edi + 1]
finish:
  xor eax, eax
  jmp debug_exit

%macro command 2
  db %1
  dd %2
%endmacro
section .rodata
commands:
  command '.', hello
  command '1', letter
  command '2', letter
  command '3', letter
  command '4', letter
  command 'e', echo
  command 'f', flood
  command 'F', flood_forever
  command 'P', panic
  command 'p', panic_begin
  command 'v', pvpanic
  command 'x', exit_digit
  command 'o', power_off
  command 'b', wait_button
  command 'r', reset_cf9
  command 'k', reset_i8042
  command 'a', reset_port92
  command 'c', count_boots
  command 't', triple_fault
  command 'h', halt
  command 's', spin
  command 'i', idle
  command 'w', wild
  db 0
com_ports: dw 0x3F8, 0x2F8, 0x3E8, 0x2E8
hello_text: db "hello from the guest", 13, 10, 0
waiting_text: db "waiting", 13, 10, 0
panic_text: db "[    1.234567] Kernel panic - not syncing: the test says so", 13, 10, 0
panic_end:  db "[    1.234999] ---[ end Kernel panic - not syncing: the test says so ]---", 13, 10, 0
boot_text:  db "boot "
boot_digit: db "0", 13, 10, 0
empty:      db 0
no_idt:     dw 0
            dd 0

section .text
; AL to the port DX of a UART
put_to:
  push eax
  push edx
  add dx, LSR
.wait:
  in al, dx
  test al, LSR_THRE
  jz .wait
  pop edx
  pop eax
  out dx, al
  ret
put:
  push edx
  mov dx, COM1
  call put_to
  pop edx
  ret
; the text at EDI
print:
  mov al, [edi]
  test al, al
  jz .end
  call put
  inc edi
  jmp print
.end:
  ret

hello:
  mov edi, hello_text
  jmp print
letter:
  movzx ecx, al
  sub ecx, '1'
  mov dx, [com_ports + ecx * 2]
  jmp put_to

echo:
  mov dx, COM1 + LSR
  in al, dx
  test al, LSR_DR
  jz echo
  mov dx, COM1
  in al, dx
  cmp al, 'Q'
  je .end
  call put
  jmp echo
.end:
  ret

; ECX lines of 16 bytes: a number of 8 hexadecimal digits, dots, CR, LF
lines:
  xor ebx, ebx
.line:
  mov edx, ebx
  mov ebp, 8
.digit:
  rol edx, 4
  mov al, dl
  and al, 15
  add al, '0'
  cmp al, '9'
  jbe .decimal
  add al, 'a' - '0' - 10
.decimal:
  call put
  dec ebp
  jnz .digit
  mov ebp, 6
.dot:
  mov al, '.'
  call put
  dec ebp
  jnz .dot
  mov al, 13
  call put
  mov al, 10
  call put
  inc ebx
  cmp ebx, ecx
  jne .line
  ret
flood:
  mov ecx, 16384
  jmp lines
flood_forever:
  mov ecx, -1
  call lines
  jmp flood_forever

panic:
  call panic_begin
  mov edi, panic_end
  call print
  jmp spin
panic_begin:
  mov edi, panic_text
  jmp print
pvpanic:
  mov dx, 0x505
  mov al, 1
  out dx, al
  jmp spin

exit_digit:
  lodsb
  sub al, '0'
debug_exit:
  out 0xF4, al
  jmp spin
power_off:
  mov dx, PM1_CNT
  mov ax, 0x2000                ; SLP_EN, SLP_TYP 0
  out dx, ax
  jmp spin
wait_button:
  mov al, 0xF1
  out 0xB2, al
  mov edi, waiting_text
  call print
.wait:
  mov dx, PM1_STS
  in ax, dx
  test ax, 0x100                ; PWRBTN_STS
  jz .wait
  out dx, ax
  ret

reset_cf9:
  mov dx, 0xCF9
  mov al, 2
  out dx, al
  mov al, 6
  out dx, al
  jmp spin
reset_i8042:
  mov al, 0xFE
  out 0x64, al
  jmp spin
reset_port92:
  in al, 0x92
  or al, 1
  out 0x92, al
  jmp spin
count_boots:
  mov al, 0x70
  out 0x70, al
  in al, 0x71
  inc al
  mov ah, al
  mov al, 0x70
  out 0x70, al
  mov al, ah
  out 0x71, al
  add al, '0'
  mov [boot_number], al
  mov edi, boot_text
.print:
  mov al, [edi]
  test al, al
  jz .end
  cmp edi, boot_digit
  jne .put
  mov al, [boot_number]
.put:
  call put
  inc edi
  jmp .print
.end:
  cmp byte [boot_number], '3'
  jb reset_cf9
  ret

triple_fault:
  lidt [no_idt]
  ud2
halt:
  cli
  hlt
  jmp halt
spin:
  pause
  jmp spin
idle:
  sti
  hlt
  jmp idle

; every size, at odd addresses too
wild:
  mov ecx, 0x300
.ports:
  mov edx, ecx
  add edx, 0xC000
  in al, dx
  in ax, dx
  in eax, dx
  out dx, al
  out dx, ax
  out dx, eax
  inc ecx
  cmp ecx, 0x340
  jne .ports
  mov dx, COM1 + 1              ; two registers at once, and over the end of a device
  in ax, dx
  mov dx, COM1 + 6
  in eax, dx
  mov edi, 0xD0000001           ; nobody is there
  mov al, [edi]
  mov ax, [edi]
  mov eax, [edi]
  mov [edi], al
  mov [edi], ax
  mov [edi], eax
  mov eax, [0xFEC00003]         ; IOAPIC, across its registers
  mov [0xFEC00007], eax
  mov eax, [0xFFFFFFFC]
  ret

section .bss
boot_number: resb 1
  alignb 16
  resb 4096
stack_top:
