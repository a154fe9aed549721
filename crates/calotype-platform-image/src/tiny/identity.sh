#!/bin/sh
# Gives every instance its own identity: host name, machine ID, SSH host keys, login keys.
#
# A disk may be a copy of another instance's. Whose it is stands in the metadata (the instance's
# OCID) and in the firmware (a UUID per virtual machine); when either differs from what this disk
# remembers, all that identified the other instance goes.

. /usr/lib/tiny/environment

write() {
	# Via a rename, so that a cut of power leaves the old or the new content.
	cat >"$1.new" && mv "$1.new" "$1"
}

mkdir -p $state
system=$(cat /sys/class/dmi/id/product_uuid 2>/dev/null)
instance=$(metadata instance/id)
if [ -n "$instance" ]; then
	[ "$instance" = "$(cat $state/instance 2>/dev/null)" ] || new=yes
else
	[ "$system" = "$(cat $state/system 2>/dev/null)" ] || new=yes
fi

if [ -n "$new" ]; then
	rm -f $state/instance $state/system $state/user-data-started
	rm -f /etc/dropbear/*_host_key
	: >/etc/machine-id
fi
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid | write /etc/machine-id
# Clients written in Go ask for ed25519 last, and dropbear ends in a failed assertion where it has no other key.
for kind in ed25519 ecdsa; do
	host_key=/etc/dropbear/dropbear_${kind}_host_key
	[ -s $host_key ] || dropbearkey -t $kind -f $host_key >/dev/null 2>&1
done

if [ -n "$new" ]; then
	name=$(metadata instance/hostname) || name=$(cat /run/dhcp-hostname 2>/dev/null)
	if [ -n "$name" ]; then
		echo "$name" | write /etc/hostname
		grep -v '^127\.0\.1\.1[[:space:]]' /etc/hosts >/run/hosts
		{ cat /run/hosts; echo "127.0.1.1 $name"; } | write /etc/hosts
	fi

	keys=/home/opc/.ssh/authorized_keys
	if metadata instance/metadata/ssh_authorized_keys >/run/keys; then
		mkdir -p ${keys%/*}
		touch $keys
		while read -r key || [ -n "$key" ]; do
			grep -qxF -- "$key" $keys || printf '%s\n' "$key" >>$keys
		done </run/keys
		chmod 700 ${keys%/*}
		chmod 600 $keys
		chown -R opc:opc ${keys%/*}
	fi

	# Last, so that a cut of power before this point starts over.
	sync
	[ -z "$system" ] || echo "$system" | write $state/system
	[ -z "$instance" ] || echo "$instance" | write $state/instance
	sync
fi
hostname "$(cat /etc/hostname)"
echo "${instance:-none}" >/run/instance
