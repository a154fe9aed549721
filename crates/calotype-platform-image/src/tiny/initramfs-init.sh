#!/bin/sh
# First process in the initial RAM filesystem: loads the driver of every device that is there,
# finds the root filesystem by its UUID and hands over to it.

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

for word in $(cat /proc/cmdline); do
	case $word in
	root=UUID=*) uuid=${word#root=UUID=} ;;
	esac
done

# A loaded bus driver brings new devices to light (PCI, then virtio or SCSI, then disks), hence
# the loop. Network drivers come along with the others. Within one pass no driver is asked for
# twice.
attempts=0
until root=$(findfs "UUID=$uuid" 2>/dev/null); do
	modprobe -aq $(cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u) 2>/dev/null
	attempts=$((attempts + 1))
	if [ $attempts -gt 300 ]; then
		echo "tiny: no disk holds the root filesystem $uuid; disks: $(cat /proc/partitions)"
		exec sh
	fi
	[ $attempts -lt 4 ] || usleep 100000
done

mount -t ext4 "$root" /root || {
	echo "tiny: cannot mount $root"
	exec sh
}
for directory in proc sys dev; do
	mount --move /$directory /root/$directory
done
exec switch_root /root /sbin/init
