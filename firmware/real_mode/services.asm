; What a guest in real mode finds at 0xFE000 where there is no BIOS: the few services that kernels'
; setup code and small boot sectors call. No disks, no video: text goes to COM1, keys come from it.
; src/vmm/boot/real_mode_services.cc writes it there, with the vectors and the memory map.
bits 16
org 0xE000

COM1      equ 0x3F8
LSR       equ 5
LSR_DR    equ 0x01
LSR_THRE  equ 0x20
BDA       equ 0x40
MAP_MAX   equ 32
MAP_ENTRY equ 20
CARRY     equ 0x01              ; in FLAGS
ZERO      equ 0x40

; --- For the loader: fixed places. ---
  db "VMM!"
  dw nothing                    ; 0x04: every vector that is not in the list
  dw vectors                    ; 0x06: number, handler; ends with 0xFFFF
  times 8 db 0
extended_kib    dw 0            ; 0x10: above 1 MiB, at most 65535
below_16m_kib   dw 0            ; 0x12: from 1 to 16 MiB
above_16m_64kib dw 0            ; 0x14: from 16 MiB on, in units of 64 KiB
map_count       dw 0            ; 0x16
map             times MAP_MAX * MAP_ENTRY db 0  ; 0x18

vectors:
  dw 0x08, irq0
  dw 0x09, irq_first, 0x0A, irq_first, 0x0B, irq_first, 0x0C, irq_first
  dw 0x0D, irq_first, 0x0E, irq_first, 0x0F, irq_first
  dw 0x10, video, 0x11, equipment, 0x12, memory_size, 0x13, disk, 0x15, system
  dw 0x16, keyboard, 0x18, restart, 0x19, restart, 0x1A, clock
  dw 0x70, irq_second, 0x71, irq_second, 0x72, irq_second, 0x73, irq_second
  dw 0x74, irq_second, 0x75, irq_second, 0x76, irq_second, 0x77, irq_second
  dw 0xFFFF

key dw 0                        ; what INT 16h AH=01h has seen and AH=00h has not fetched; 0: none

nothing:
  iret

; --- Hardware interrupts, should a guest let them in at a BIOS's vectors. ---
irq0:
  push ax
  push ds
  mov ax, BDA
  mov ds, ax
  inc dword [0x6C]              ; ticks since midnight
  cmp dword [0x6C], 0x1800B0
  jb .same_day
  mov dword [0x6C], 0
  mov byte [0x70], 1
.same_day:
  int 0x1C
  pop ds
  mov al, 0x20
  out 0x20, al
  pop ax
  iret

irq_second:
  push ax
  mov al, 0x20
  out 0xA0, al
  jmp irq_first.end
irq_first:
  push ax
  mov al, 0x20
.end:
  out 0x20, al
  pop ax
  iret

; Returns to the caller with CF clear, or set; BP is on the stack, nothing else.
%macro RETURN 1
  %ifidni %1, ok
  and byte [bp + 6], ~CARRY
  %else
  or byte [bp + 6], CARRY
  %endif
  pop bp
  iret
%endmacro
%macro ENTER 0
  push bp
  mov bp, sp
%endmacro

; --- INT 10h: teletype, strings, and a text mode that is never seen. ---
video:
  cmp ah, 0x0E
  je .teletype
  cmp ah, 0x13
  je .string
  cmp ah, 0x0F
  je .mode
  cmp ah, 0x03
  je .cursor
  iret
.teletype:
  call put
  iret
.string:                        ; CX characters at ES:BP
  pusha
  mov si, bp
  test al, 2
  mov bl, 1
  jz .next
  inc bl                        ; attributes between them
.next:
  jcxz .done
  mov al, [es:si]
  call put
  mov bh, 0
  add si, bx
  dec cx
  jmp .next
.done:
  popa
  iret
.mode:
  mov ax, 0x5003                ; 80 columns, mode 3
  mov bh, 0
  iret
.cursor:
  mov cx, 0x0607
  xor dx, dx
  iret

put:                            ; AL
  push dx
  push ax
  mov dx, COM1 + LSR
.wait:
  in al, dx
  test al, LSR_THRE
  jz .wait
  pop ax
  mov dx, COM1
  out dx, al
  pop dx
  ret

; --- INT 11h, INT 12h ---
equipment:
  push ds
  push BDA
  pop ds
  mov ax, [0x10]
  pop ds
  iret
memory_size:
  push ds
  push BDA
  pop ds
  mov ax, [0x13]
  pop ds
  iret

; --- INT 13h: there are no disks. ---
disk:
  ENTER
  mov ah, 1                     ; invalid function or drive
  RETURN error

; --- INT 15h: memory, A20. ---
system:
  ENTER
  cmp eax, 0xE820
  je .map
  cmp ax, 0xE801
  je .sizes
  cmp ah, 0x88
  je .extended
  cmp ah, 0x24
  je .a20
  mov ah, 0x86                  ; not supported
  RETURN error

.map:
  cmp edx, 0x534D4150           ; "SMAP"
  jne .bad
  cmp ecx, MAP_ENTRY
  jb .bad
  cmp bx, [cs:map_count]
  jae .bad
  push si
  push di
  push ds
  push cs
  pop ds
  imul si, bx, MAP_ENTRY
  add si, map
  mov cx, MAP_ENTRY
  cld
  rep movsb
  pop ds
  pop di
  pop si
  inc bx
  cmp bx, [cs:map_count]
  jb .more
  xor ebx, ebx
.more:
  mov eax, 0x534D4150
  mov ecx, MAP_ENTRY
  RETURN ok
.bad:
  mov ah, 0x86
  RETURN error

.sizes:
  mov ax, [cs:below_16m_kib]
  mov bx, [cs:above_16m_64kib]
  mov cx, ax
  mov dx, bx
  RETURN ok
.extended:
  mov ax, [cs:extended_kib]
  RETURN ok

.a20:
  cmp al, 1
  jbe .a20_set
  cmp al, 2
  je .a20_status
  cmp al, 3
  jne .bad
  mov bx, 3                     ; by the keyboard controller and by port 0x92
  mov ah, 0
  RETURN ok
.a20_set:
  mov ah, al
  in al, 0x92
  and al, 0xFC
  add ah, ah
  or al, ah
  out 0x92, al
  mov ax, 0x2400
  RETURN ok
.a20_status:
  in al, 0x92
  shr al, 1
  and ax, 1
  RETURN ok

; --- INT 16h: keys from COM1. ---
keyboard:
  ENTER
  and ah, 0xEF                  ; 10h, 11h, 12h for large keyboards
  jz .read
  cmp ah, 1
  je .look
  cmp ah, 2
  jne .return
  mov al, 0                     ; no shift key is down
.return:
  pop bp
  iret
.read:
  call poll
  jz .read
  mov word [cs:key], 0
  jmp .return
.look:
  call poll
  jz .none
  and byte [bp + 6], ~ZERO
  jmp .return
.none:
  or byte [bp + 6], ZERO
  jmp .return

poll:                           ; AX: the key, ZF: there is none
  mov ax, [cs:key]
  test ax, ax
  jnz .end
  push dx
  mov dx, COM1 + LSR
  in al, dx
  test al, LSR_DR
  mov ax, 0
  jz .nothing
  mov dx, COM1
  in al, dx
  mov ah, 1                     ; any scan code but 0
  mov [cs:key], ax
.nothing:
  pop dx
  test ax, ax
.end:
  ret

; --- INT 1Ah: ticks, time, date. ---
clock:
  ENTER
  cmp ah, 0
  je .ticks
  cmp ah, 2
  je .time
  cmp ah, 4
  je .date
  mov ah, 0x81                  ; also what a missing PCI BIOS says
  RETURN error
.ticks:
  push ds
  push BDA
  pop ds
  mov dx, [0x6C]
  mov cx, [0x6E]
  mov al, [0x70]
  mov byte [0x70], 0
  pop ds
  RETURN ok
.time:
  mov al, 4
  call cmos
  mov ch, al
  mov al, 2
  call cmos
  mov cl, al
  mov al, 0
  call cmos
  mov dh, al
  mov dl, 0
  RETURN ok
.date:
  mov al, 0x32
  call cmos
  mov ch, al
  mov al, 9
  call cmos
  mov cl, al
  mov al, 8
  call cmos
  mov dh, al
  mov al, 7
  call cmos
  mov dl, al
  RETURN ok

cmos:                           ; AL: index, then value
  out 0x70, al
  in al, 0x71
  ret

; --- INT 18h, INT 19h and the reset vector: there is nothing else to boot. ---
restart:
  cli
  mov dx, 0xCF9
  mov al, 0x02
  out dx, al
  mov al, 0x06
  out dx, al
.halt:
  hlt
  jmp .halt

  times 0x1FF0 - ($ - $$) db 0
  jmp 0xF000:restart            ; F000:FFF0
  db "01/01/26"                 ; FFF5: when the BIOS was made
  db 0
  db 0xFC                       ; FFFE: an AT
  db 0
