#!/bin/sh
# Everything before services start: mounts, network, who this instance is.

. /usr/lib/tiny/environment

mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr

hostname "$(cat /etc/hostname)"
ip link set lo up
# Again as long as a driver of a bus brings new devices to light: a kernel that had the disk's driver
# built in comes here before it knows of any other.
until
	known=$devices
	devices=$(cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u)
	[ "$devices" = "$known" ]
do
	modprobe -aq $devices 2>/dev/null
done
modprobe -aq button evdev 2>/dev/null

# Comes back with a lease, or after 20 s without one; goes on in the background in both cases.
[ ! -e /sys/class/net/eth0 ] ||
	udhcpc -b -i eth0 -s /usr/lib/tiny/dhcp -t 20 -T 1 -x "hostname:$(hostname)" \
		-O staticroutes -O mtu -O hostname -O search >/run/dhcp.log 2>&1

/usr/lib/tiny/identity

# What an administrator wants at every boot.
[ ! -x /etc/rc.local ] || /etc/rc.local
