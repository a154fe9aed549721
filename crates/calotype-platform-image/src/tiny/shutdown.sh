#!/bin/sh
# Run by init as the last thing: ends all processes, makes the disk consistent, stops the machine.

. /usr/lib/tiny/environment

# What poweroff, reboot or halt left here. When nothing is here, init was asked directly (busybox's
# shell prefers its own reboot to any other) and only it knows what comes last.
action=$(cat /run/shutdown 2>/dev/null)
echo "tiny: going down ${action:+for $action}" >/dev/console

others() {
	for status in /proc/[0-9]*/status; do
		# A kernel thread has no memory of its own.
		grep -q '^VmSize' "$status" 2>/dev/null || continue
		pid=${status#/proc/}
		pid=${pid%/status}
		[ "$pid" = 1 ] || [ "$pid" = $$ ] || return 0
	done
	return 1
}

trap '' HUP TERM INT
kill -TERM -1
tries=30
while others && [ $tries -gt 0 ]; do
	usleep 100000
	tries=$((tries - 1))
done
kill -KILL -1
sync
umount -a -r 2>/dev/null
mount -o remount,ro / 2>/dev/null
case $action in
reboot | halt | poweroff) exec busybox "$action" -f ;;
esac
