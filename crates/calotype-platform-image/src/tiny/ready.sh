#!/bin/sh
# Says on the console that logins work, then runs the instance's user data, once per instance.

. /usr/lib/tiny/environment

# Port 22 in state "listen", as the kernel's table spells it.
while ! grep -q ':0016 [0:]* 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
	usleep 20000
done
instance=$(cat /run/instance)
echo "tiny: ready, instance $instance" >/dev/console

[ "$instance" != none ] || exit 0
[ ! -e $state/user-data-started ] || exit 0
metadata instance/metadata/user_data >/run/user-data.base64 || exit 0
base64 -d </run/user-data.base64 >/run/user-data || exit 0
if [ "$(head -c 2 /run/user-data | xxd -p)" = 1f8b ]; then
	zcat </run/user-data >/run/user-data.plain && mv /run/user-data.plain /run/user-data
fi
[ "$(head -c 2 /run/user-data)" = '#!' ] || exit 0

# Marked before it runs: a script that reboots is not run again.
mv /run/user-data $state/user-data
chmod 700 $state/user-data
echo "$instance" >$state/user-data-started
sync
(cd / && exec $state/user-data) >/var/log/user-data.log 2>&1 </dev/null
echo "tiny: user data ended with status $?" >/dev/console
