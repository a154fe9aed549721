//! Disk formats: reads raw and qcow2 disks from positioned sources, bounded, without opening anything.
