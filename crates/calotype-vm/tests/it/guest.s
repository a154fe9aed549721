# The guest of the tests: one boot sector that shows on its serial console what its disk holds.
#
# It counts its boots in sector 3, prints "boot A", "boot B", …, and then prints for ever the text of
# sectors 256 to 263, one after the other, a line each, read anew each time. A 'P' at the end of such
# a sector powers the machine off. What cannot be read or written is told as "disk error".
# The texts lie in another qcow2 cluster than what is written, so that they stay in the base.
#
#   as --32 -o guest.o guest.s && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
        .set    BUFFER, 0x8000
        .set    SERIAL, 0x3f8
        .set    TICKS, 0x46c            # the BIOS counts 18 a second here

        .code16
        .globl  _start
_start: xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        cld
        movb    %dl, drive

        movw    $3, sector
        movb    $0x42, %ah
        call    disk
        incb    BUFFER
        movb    $0x43, %ah
        call    disk
        movb    BUFFER, %al
        addb    $'@', %al
        movb    %al, boots
        movw    $banner, %si
        call    print

next:   movb    turn, %al
        andb    $7, %al
        movb    $1, %ah
        movw    %ax, sector
        incb    turn
        movb    $0x42, %ah
        call    disk
        jc      wait
        movw    $BUFFER, %si
        call    print
        movw    $newline, %si
        call    print
        cmpb    $'P', BUFFER + 511
        jne     wait
        movw    $0x604, %dx             # PM1a control of a q35 board: S5
        movw    $0x2000, %ax
        outw    %ax, %dx
wait:   movw    TICKS, %bx
1:      sti
        hlt
        cmpw    TICKS, %bx
        je      1b
        jmp     next

# Reads (%ah 0x42) or writes (0x43) the sector; carry set on failure.
disk:   xorb    %al, %al
        movb    drive, %dl
        movw    $packet, %si
        movw    $1, count               # a failure leaves there how many sectors came: none
        int     $0x13
        jnc     2f
        movw    $failed, %si
        call    print
        stc
2:      ret

print:  lodsb
        testb   %al, %al
        jz      4f
        movb    %al, %ah
        movw    $(SERIAL + 5), %dx
3:      inb     %dx, %al
        testb   $0x20, %al
        jz      3b
        movw    $SERIAL, %dx
        movb    %ah, %al
        outb    %al, %dx
        jmp     print
4:      ret

drive:  .byte   0
turn:   .byte   0
banner: .ascii  "boot "
boots:  .byte   0
newline:
        .asciz  "\n"
failed: .asciz  "disk error\n"
        .balign 4
packet: .byte   16, 0
count:  .word   1, BUFFER, 0
sector: .byte   0, 0, 0, 0, 0, 0, 0, 0
        .org    510
        .word   0xaa55
