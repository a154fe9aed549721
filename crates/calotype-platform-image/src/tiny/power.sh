#!/bin/sh
# poweroff, reboot and halt: ask init to end everything properly; with -f at once.

action=$(basename "$0")
case $* in
*-f*) exec busybox "$action" "$@" ;;
esac
echo "$action" >/run/shutdown || exit
exec busybox "$action"
