; A ROM of 64 KiB: started from the reset vector, it says so on the firmware's debug port, checks
; that it can't be written and that its tail is below 1 MiB, and ends the run with 0, else with the
; number of the step that failed.
bits 16
org 0
start:
  mov dx, 0x402
  mov si, hello
.next:
  mov al, [cs:si]
  inc si
  test al, al
  jz .write
  out dx, al
  jmp .next
.write:                         ; 1: CS is still at 0xFFFF0000
  mov bl, 1
  mov byte [cs:hello], 'X'
  cmp byte [cs:hello], 'h'
  jne failed
  inc bl                        ; 2: the debug port says that it is there
  in al, dx
  cmp al, 0xE9
  jne failed
  jmp 0xF000:shadow
shadow:                         ; 3: the copy below 1 MiB is RAM
  inc bl
  cmp byte [cs:hello], 'h'
  jne failed
  mov byte [cs:hello], 'X'
  cmp byte [cs:hello], 'X'
  jne failed
  mov bl, 0
failed:
  mov al, bl
  mov dx, 0xF4
  out dx, al
.halt:
  hlt
  jmp .halt
hello db "hello from the ROM", 10, 0
  times 0xFFF0 - ($ - $$) db 0xFF
  jmp near start
  times 0x10000 - ($ - $$) db 0xFF
