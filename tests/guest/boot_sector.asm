; A boot sector of the project's own making: real mode, the services where a BIOS would be, A20, a
; trip through protected mode and back, and what lies behind the first 512 bytes of its image.
; Debug exit: 0 = all is well, else the number of the step that failed.
bits 16
org 0x7C00
  cli
  xor ax, ax
  mov ds, ax
  mov es, ax
  mov [drive], dl
  mov si, hello
.next:
  lodsb
  test al, al
  jz .map
  mov ah, 0x0E
  int 0x10
  jmp .next

.map:                           ; step 1: the memory map, with RAM from 0 and from 1 MiB on
  mov byte [step], 1
  xor ebx, ebx
.entry:
  mov eax, 0xE820
  mov edx, 0x534D4150
  mov ecx, 20
  mov di, 0x9000
  int 0x15
  jc failed
  cmp eax, 0x534D4150
  jne failed
  cmp dword [0x9000 + 16], 1
  jne .skip
  inc byte [ram_ranges]
.skip:
  test ebx, ebx
  jnz .entry
  cmp byte [ram_ranges], 2
  jne failed

  inc byte [step]               ; 2: 639 KiB, and no disks
  int 0x12
  cmp ax, 639
  jne failed
  mov ah, 0x02
  mov al, 1
  mov cx, 2
  mov dx, 0x80
  int 0x13
  jnc failed

  inc byte [step]               ; 3: A20 through port 0x92, seen by the address 1 MiB higher
  mov ax, 0xFFFF
  mov es, ax
  mov byte [0x500], 1
  mov byte [es:0x510], 2
  cmp byte [0x500], 1
  jne failed
%ifdef A20_MASKS
  in al, 0x92
  and al, 0xFC
  out 0x92, al
  jmp .closed
.closed:
  mov byte [es:0x510], 3
  cmp byte [0x500], 3
  jne failed
  in al, 0x92
  or al, 2
  and al, 0xFE
  out 0x92, al
  jmp .open
.open:
  cmp byte [es:0x510], 2
  jne failed
%endif

  inc byte [step]               ; 4: protected mode and back, with a data segment of 4 GiB kept
  lgdt [gdtr]
  mov eax, cr0
  or al, 1
  mov cr0, eax
  jmp 0x08:.protected
.protected:
  mov ax, 0x10
  mov fs, ax
  mov eax, cr0
  and al, 0xFE
  mov cr0, eax
  jmp 0:.real
.real:
  mov dword [dword fs:0x200000], 0x12345678
  cmp dword [dword fs:0x200000], 0x12345678
  jne failed

  inc byte [step]               ; 5: the second sector is there
  cmp dword [second], 0x444E4F43
  jne failed
  mov byte [step], 0
failed:
  mov al, [step]
  mov dx, 0xF4
  out dx, al
.halt:
  hlt
  jmp .halt

drive      db 0
step       db 0
ram_ranges db 0
hello      db "hello from the boot sector", 13, 10, 0
gdt        dq 0, 0x00009B000000FFFF, 0x00CF93000000FFFF
gdtr       dw 23
           dd gdt
  times 510 - ($ - $$) db 0
  dw 0xAA55
second     db "COND"
  times 1024 - ($ - $$) db 0
