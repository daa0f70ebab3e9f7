#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: deps.sh TARGET: installs what TARGET (tree run test check shell bench
# check-fresh) lacks; as root with apt, else it prints the command to run.
# deps.sh bindgen: waits until bindgen is there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Debian 12 has no bindgen that is new enough: cargo builds it, which takes a
# minute or three, in the background while the tree is fetched.
bindgen_ok() {
	[ "$LLVM" = 1 ] || [ -x "$CACHE/cargo/bin/bindgen" ]
}

bindgen_build() {
	(
		flock 9
		bindgen_ok && exit 0
		exec env PATH="$LLVM_BIN:/usr/bin:/bin" LIBCLANG_PATH=/usr/lib/llvm-19/lib \
			cargo install bindgen-cli --version "$BINDGEN_VERSION" --locked \
			--root "$CACHE/cargo" > "$LOGS/bindgen.log" 2>&1
	) 9> "$CACHE/bindgen.lock"
}

if [ "${1:-}" = bindgen ]; then
	bindgen_ok && exit 0
	say "waiting for bindgen $BINDGEN_VERSION (cargo install)"
	bindgen_build || { tail -20 "$LOGS/bindgen.log" >&2; die "bindgen does not build"; }
	exit 0
fi
[ "${1:-}" != bindgen-build ] || { bindgen_build; exit; }

TARGET=${1:-run}
missing=()

# need WHY PACKAGE...
need() {
	local why=$1 p lack=()
	shift
	for p in "$@"; do
		case $installed in *" $p "*) ;; *) lack+=("$p") ;; esac
	done
	[ ${#lack[@]} = 0 ] && return
	missing+=("${lack[@]}")
	say "missing, $why: ${lack[*]}"
}

if ! have dpkg-query; then
	for p in git make gcc flex bison bc xz rsync perl python3 clang ld.lld rustc bindgen; do
		have "$p" || missing+=("$p")
	done
	[ ${#missing[@]} = 0 ] || die "not Debian; please install what provides: ${missing[*]}"
	exit 0
fi

installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package} ' | tr '\n' ' ' |
	sed 's/not-installed [^ ]* //g; s/config-files [^ ]* //g') "

need 'to fetch and keep the kernel tree' git ca-certificates xz-utils rsync perl python3
case $TARGET in
tree) ;;
check-fresh) need 'to make fresh roots' debootstrap debian-archive-keyring ;;
*)
	need 'to build a kernel' make gcc libc6-dev flex bison bc ccache
	if [ $BOOKWORM = 1 ]; then
		need 'to build a kernel with Rust' rustc-web rust-web-src rustfmt-web \
			clang-19 lld-19 llvm-19
		[ -x "$CACHE/cargo/bin/bindgen" ] ||
			need 'to build bindgen' cargo-web libclang-19-dev
		clippy=rust-web-clippy
	else
		need 'to build a kernel with Rust' rustc rust-src rustfmt bindgen clang lld llvm
		clippy=rust-clippy
	fi
	need 'to make the guest'\''s scratch disk' e2fsprogs
	;;
esac
case $TARGET in
run) need 'the libaio program that make run shows' fio ;;
test) need 'for the second guest' qemu-system-x86 libelf-dev libssl-dev gcc-multilib ;;
bench) need 'for the benchmark'\''s guest' qemu-system-x86 libelf-dev libssl-dev ;;
check) need 'to check the series' "$clippy" sparse shellcheck \
	python3-git python3-ply libelf-dev libssl-dev ;;
esac

if [ ${#missing[@]} != 0 ]; then
	cmd=(apt-get install -y --no-install-recommends "${missing[@]}")
	if [ "$(id -u)" != 0 ]; then
		as=su\ -c
		! have sudo || as='sudo sh -c'
		die "these have to be installed by root; type this, then start again: $as 'apt-get update && ${cmd[*]}'"
	fi
	say "installing them with apt; log: $LOGS/apt.log"
	export DEBIAN_FRONTEND=noninteractive
	# an installation that was interrupted is finished first
	{ dpkg --configure -a && apt-get update && "${cmd[@]}" -o DPkg::Lock::Timeout=300; } \
		> "$LOGS/apt.log" 2>&1 < /dev/null || {
		why=$(grep -m 1 -E '^(E|W|Err|dpkg: error)[: ]' "$LOGS/apt.log") || true
		die "apt-get cannot install them (${why:-see $LOGS/apt.log}); see to the network${http_proxy:+ or to http_proxy=$http_proxy} until this works: apt-get update && ${cmd[*]}"
	}
fi
if [ "$TARGET" != tree ] && [ "$TARGET" != check-fresh ] && ! bindgen_ok; then
	say "building bindgen $BINDGEN_VERSION with cargo in the background"
	setsid "$0" bindgen-build > /dev/null 2>&1 < /dev/null &
fi
