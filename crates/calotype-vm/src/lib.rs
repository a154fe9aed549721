//! Virtual machines: QEMU processes, their control sockets and the disks served to them.
