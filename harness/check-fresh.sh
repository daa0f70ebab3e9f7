#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make check-fresh: does what a stranger does.  Makes a root with nothing but the
# base system of a Debian release, clones this repo into it, types what the README
# says, and prints how long each command took.  Too slow for CI.  As root.
#   RELEASES='12 13'                  which releases
#   COMMANDS='make run;make test'     what to type, in this order
#   SEED=1                            give the roots this machine's kernel tarball
set -euo pipefail
. "$(dirname "$0")/lib.sh"

RELEASES=${RELEASES:-12 13}
IFS=';' read -r -a COMMANDS <<< "${COMMANDS:-make run;make test}"
FRESH=$CACHE/fresh
# What the README has a reader install first.
FIRST='apt-get update && apt-get install -y --no-install-recommends git make ca-certificates'

[ "$(id -u)" = 0 ] || die 'fresh roots are made by root: sudo make check-fresh'
"$HARNESS/deps.sh" check-fresh
uri=$(mirror)
[ -n "$uri" ] || die 'no Debian mirror in the configuration of apt: apt-get update'

codename() {
	case $1 in
	12) echo bookworm ;;
	13) echo trixie ;;
	*) die "no such release: $1 (12, 13)" ;;
	esac
}

# Where the clone goes: places in which a guest has file systems of its own, and
# names with a blank.
place() {
	case $1 in
	12) echo '/tmp/threaded aio' ;;
	*) echo /mnt/aio ;;
	esac
}

# in_root ROOT COMMAND: in a mount namespace of its own, with the machine's way to
# the network and nothing else of its environment.
in_root() {
	local v keep=()
	for v in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ -z "${!v:-}" ] || keep+=("$v=${!v}")
	done
	# shellcheck disable=SC2016 # the inner shell's
	env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"${keep[@]}" unshare -m --propagation private sh -c '
			mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" &&
			mount --rbind /dev "$1/dev" && mount -t tmpfs -o mode=1777 shm "$1/dev/shm" &&
			exec chroot "$1" /bin/bash -c "$2"' sh "$1" "$2" < /dev/null
}

make_root() { # RELEASE ROOT
	local code
	code=$(codename "$1")
	rm -rf --one-file-system "$2"
	mkdir -p "$2"
	say "Debian $1: a fresh root"
	debootstrap --variant=minbase "$code" "$2" "$uri" > "$LOGS/fresh-$1-root.log" 2>&1 ||
		{ tail -5 "$LOGS/fresh-$1-root.log" >&2; die "debootstrap failed"; }
	# the way to the network is the machine's
	cp -L /etc/resolv.conf /etc/hosts "$2/etc/"
	mkdir -p "$2/usr/local/share/ca-certificates"
	cp -r /usr/local/share/ca-certificates/. "$2/usr/local/share/ca-certificates/"
	grep -l '^ *Acquire::' /etc/apt/apt.conf.d/* 2>/dev/null |
		while read -r conf; do cp "$conf" "$2/etc/apt/apt.conf.d/"; done
	printf 'deb %s %s main\n' "$uri" "$code" > "$2/etc/apt/sources.list"
}

rows=() failed=0
row() { # RESULT RELEASE SECONDS COMMAND
	rows+=("$(printf '%-6s Debian %s  %4d:%02d min  %s' "$1" "$2" $(($3 / 60)) $(($3 % 60)) "$4")")
	say "${rows[-1]}"
}

for release in $RELEASES; do
	root=$FRESH/$release clone=$(place "$release")
	make_root "$release" "$root"
	in_root "$root" "$FIRST" > "$LOGS/fresh-$release-first.log" 2>&1 ||
		{ tail -5 "$LOGS/fresh-$release-first.log" >&2; die "apt-get does not work in $root"; }
	mkdir -p "$root$(dirname "$clone")"
	git clone -q --no-local "$HERE" "$root$clone"
	if [ "${SEED:-0}" = 1 ]; then
		mkdir -p "$root/root/.cache/aio-thread"
		cp -r "$DL" "$root/root/.cache/aio-thread/"
	fi
	for command in "${COMMANDS[@]}"; do
		log=$LOGS/fresh-$release-${command//[^a-z0-9]/-}.log start=$SECONDS rc=0
		say "Debian $release, in \"$clone\": $command   (log: $log)"
		in_root "$root" "cd '$clone' && $command" > "$log" 2>&1 || rc=$?
		if [ $rc = 0 ]; then
			row pass "$release" $((SECONDS - start)) "$command"
		else
			row FAIL "$release" $((SECONDS - start)) "$command"
			failed=$((failed + 1))
			tail -15 "$log" >&2
		fi
	done
	say "Debian $release: $(du -sxh "$root" | cut -f1) of disk; rm -r $root removes it"
done
printf '%s\n' "${rows[@]}"
[ $failed = 0 ] || die "$failed commands failed"
