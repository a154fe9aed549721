#!/bin/sh
# adduser [options of useradd and a few of Debian's adduser] NAME: makes the user and a home.

shell=/bin/bash
set_password=yes
while [ $# -gt 1 ]; do
	case $1 in
	--disabled-password | -D) set_password= ;;
	--gecos | -g) gecos=$2; shift ;;
	--home | -h) home=$2; shift ;;
	--shell | -s) shell=$2; shift ;;
	--uid | -u) uid=$2; shift ;;
	--ingroup | -G) group=$2; shift ;;
	--system | -S) system=yes; set_password= ;;
	--no-create-home | -H) no_home=yes ;;
	--quiet | -q) ;;
	-*)
		echo "adduser: unknown option $1" >&2
		exit 1
		;;
	*)
		# Debian's second form: adduser USER GROUP.
		exec usermod -a -G "$2" "$1"
		;;
	esac
	shift
done
[ -n "$1" ] || {
	echo "usage: adduser [--disabled-password] [--gecos TEXT] [--shell SHELL] NAME" >&2
	exit 1
}
[ -n "$no_home" ] && home_option=-M || home_option=-m
useradd $home_option -s "$shell" ${system:+-r} ${gecos:+-c "$gecos"} ${home:+-d "$home"} \
	${uid:+-u "$uid"} ${group:+-g "$group"} -- "$1" || exit
# Only someone at a terminal can be asked.
[ -z "$set_password" ] || [ ! -t 0 ] || passwd "$1"
