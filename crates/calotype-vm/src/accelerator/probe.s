# The guest of the accelerator probe: one boot sector that does what every operating system does in
# its first second, and reports success through the isa-debug-exit device. Broken virtualisation
# was seen to run real mode well and to hang later, so the sector enters long mode with paging, uses
# SSE, reads an MSR and CPUID, and waits in `hlt` for three timer interrupts.
#
#   as --64 -o probe.o probe.s && objcopy -O binary -j .text probe.o probe.bin
#
# A test assembles it again where `as` is installed, and compares.
        .set    EXIT_PORT, 0xf4
        .set    SUCCESS, 0x2a
        .set    TABLES, 0x1000          # level 4, level 3, level 2: three pages
        .set    IDT, 0x4000

        .text
        .code16
        .globl  _start
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        cld
        # Identity map of the first 2 MiB.
        movw    $TABLES, %di
        xorl    %eax, %eax
        movw    $0x0c00, %cx
        rep stosl
        movl    $(TABLES + 0x1003), TABLES
        movl    $(TABLES + 0x2003), TABLES + 0x1000
        movl    $0x83, TABLES + 0x2000
        # PAE, OSFXSR; long mode enable; protection and paging at once.
        movl    $0x220, %eax
        movl    %eax, %cr4
        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        lgdt    gdt_pointer - _start + 0x7c00
        movl    $0x80000011, %eax
        movl    %eax, %cr0
        ljmpl   $8, $(long - _start + 0x7c00)

        .code64
long:   movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        # One interrupt gate for every vector, so that nothing unexpected is taken for the timer.
        movl    $IDT, %edi
        movl    $256, %ecx
1:      movl    $((8 << 16) | 0x7c00), %eax
        addl    $(bad - _start), %eax
        movl    %eax, (%rdi)
        movl    $0x8e00, 4(%rdi)
        movq    $0, 8(%rdi)
        addl    $16, %edi
        loop    1b
        movw    $(tick - _start + 0x7c00), IDT + 0x20 * 16
        lidt    idt_pointer - _start + 0x7c00
        # Interrupt controller to vectors 0x20.., only the timer let through.
        movl    $(pic - _start + 0x7c00), %esi
        movl    $6, %ecx
2:      lodsw
        movzbl  %al, %edx
        movb    %ah, %al
        outb    %al, %dx
        loop    2b
        # Timer at 1 kHz.
        movb    $0x34, %al
        outb    %al, $0x43
        movb    $0xa9, %al
        outb    %al, $0x40
        movb    $0x04, %al
        outb    %al, $0x40
        # CPUID, and SSE2 that must compute.
        xorl    %eax, %eax
        cpuid
        movl    $40, %eax
        movq    %rax, %xmm0
        movl    $2, %eax
        movq    %rax, %xmm1
        paddq   %xmm1, %xmm0
        movq    %xmm0, %r8
        cmpq    $SUCCESS, %r8
        jne     bad
        xorl    %ebx, %ebx
3:      sti
        hlt
        cli
        cmpl    $3, %ebx
        jb      3b
        movl    %r8d, %eax
        outb    %al, $EXIT_PORT
bad:    movb    $1, %al
        outb    %al, $EXIT_PORT
4:      hlt
        jmp     4b

tick:   incl    %ebx
        pushq   %rax
        movb    $0x20, %al
        outb    %al, $0x20
        popq    %rax
        iretq

        # Port and value: first controller, base 0x20, cascade, 8086 mode, mask; the second masked.
pic:    .byte   0x20, 0x11, 0x21, 0x20, 0x21, 0x04, 0x21, 0x01, 0x21, 0xfe, 0xa1, 0xff

        .balign 8
gdt:    .quad   0, 0x00209a0000000000, 0x0000920000000000
gdt_pointer:
        .word   23
        .long   gdt - _start + 0x7c00
idt_pointer:
        .word   4095
        .quad   IDT
        .org    510
        .word   0xaa55
