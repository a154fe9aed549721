# Read by all scripts of the system: search path, where state lives, and the metadata service.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
state=/var/lib/tiny
metadata_url=http://169.254.169.254/opc/v2

# The cloud marks its virtual machines; elsewhere nobody answers, so do not wait for it.
in_cloud() {
	[ "$(cat /sys/class/dmi/id/chassis_asset_tag 2>/dev/null)" = OracleCloud.com ]
}

# metadata PATH: writes the value to standard output. Fails with 4 when there is no such value,
# with 1 when the service does not answer. The service may come up after its first guest, so try
# for a minute where it must exist.
metadata() {
	if in_cloud; then tries=20; else tries=1; fi
	while :; do
		# Not wget's own -T: Debian 12's busybox crashes with it.
		if timeout 3 wget -q -O /run/metadata.body --header 'Authorization: Bearer Oracle' \
			"$metadata_url/$1" 2>/run/metadata.error; then
			cat /run/metadata.body
			return 0
		fi
		! grep -q ' 404 ' /run/metadata.error || return 4
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 1
	done
}
