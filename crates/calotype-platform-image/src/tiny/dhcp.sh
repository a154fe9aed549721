#!/bin/sh
# Called by udhcpc with the event's name; the lease is in the environment.

. /usr/lib/tiny/environment

case $1 in
deconfig)
	ip addr flush dev "$interface"
	ip link set "$interface" up
	;;
bound | renew)
	[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
	ip addr flush dev "$interface"
	ip addr add "$ip/$mask" dev "$interface"
	if [ -n "$staticroutes" ]; then
		# Option 121: pairs of network and gateway; replaces the router option (RFC 3442).
		set -- $staticroutes
		while [ $# -ge 2 ]; do
			if [ "$2" = 0.0.0.0 ]; then
				ip route replace "$1" dev "$interface"
			else
				ip route replace "$1" via "$2" dev "$interface" onlink
			fi
			shift 2
		done
	else
		for gateway in $router; do
			ip route replace default via "$gateway" dev "$interface" onlink
			break
		done
	fi
	{
		[ -z "${search:-$domain}" ] || echo "search ${search:-$domain}"
		for server in $dns; do echo "nameserver $server"; done
	} >/etc/resolv.conf
	[ -z "$hostname" ] || echo "$hostname" >/run/dhcp-hostname
	;;
esac
