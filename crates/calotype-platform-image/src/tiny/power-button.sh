#!/bin/sh
# Waits for the ACPI power button and shuts the system down cleanly.

. /usr/lib/tiny/environment

for name in /sys/class/input/event*/device/name; do
	[ "$(cat "$name" 2>/dev/null)" != 'Power Button' ] || event=$(basename "${name%/device/name}")
done
if [ -z "$event" ]; then
	# No such button: do not let init start this over and over.
	while :; do sleep 86400; done
fi
# The read returns with the first event: input_event is 24 bytes on a 64-bit system.
dd if="/dev/input/$event" of=/dev/null bs=24 count=1 2>/dev/null && /usr/sbin/poweroff
sleep 5
