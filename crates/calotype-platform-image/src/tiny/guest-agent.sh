#!/bin/sh
# Runs QEMU's guest agent where the machine has a channel for it: the host freezes the filesystems
# through it for the moment in which it takes a snapshot of the disk.

. /usr/lib/tiny/environment

# The driver finds the ports of its controller a moment after it was loaded.
tries=50
until port=$(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name 2>/dev/null); do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || exit 0
	usleep 100000
done
port=${port%/name}
while :; do
	qemu-ga -m virtio-serial -p "/dev/${port##*/}" >/dev/null 2>&1
	sleep 1
done
