# The guest of the benchmarks: a boot sector that lives, and does what a good guest does.
#
# A hundred times a second it prints how often it has, as a line of eight hexadecimal digits, on its
# serial console. When the ACPI power button is pressed it powers the machine off at once, so what is
# measured around it is not a guest's own shutdown.
#
#   as --32 -o guest.o heartbeat.s
#   ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o heartbeat.bin guest.o
        .set    SERIAL, 0x3f8
        .set    TIMER, 0x40
        .set    DIVISOR, 11932          # 1,193,182 Hz / 100
        .set    STATUS, 0x600           # PM1a of the q35 board, as SeaBIOS maps it
        .set    ENABLE, 0x602
        .set    CONTROL, 0x604
        .set    BUTTON, 0x0100
        .set    SLEEP_S5, 0x2000

        .code16
        .globl  _start
_start: xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp

        movb    $0x34, %al              # channel 0, both bytes, rate generator
        outb    %al, $(TIMER + 3)
        movw    $DIVISOR, %ax
        outb    %al, $TIMER
        movb    %ah, %al
        outb    %al, $TIMER

        movw    $ENABLE, %dx            # QEMU drops what is pressed while it is not enabled
        movw    $BUTTON, %ax
        outw    %ax, %dx

        xorl    %ebx, %ebx
beat:   movw    $8, %cx
digit:  roll    $4, %ebx
        movb    %bl, %al
        andb    $0x0f, %al
        cmpb    $10, %al
        jb      1f
        addb    $('a' - '9' - 1), %al
1:      addb    $'0', %al
        call    print
        loop    digit
        movb    $'\n', %al
        call    print
        incl    %ebx

        sti
        hlt
        movw    $STATUS, %dx
        inw     %dx, %ax
        testw   $BUTTON, %ax
        jz      beat
        movw    $CONTROL, %dx
        movw    $SLEEP_S5, %ax
        outw    %ax, %dx
        cli
        hlt

print:  movb    %al, %ah
        movw    $(SERIAL + 5), %dx
2:      inb     %dx, %al
        testb   $0x20, %al
        jz      2b
        movw    $SERIAL, %dx
        movb    %ah, %al
        outb    %al, %dx
        ret

        .org    510
        .word   0xaa55
