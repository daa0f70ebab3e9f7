#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make bench: guest time of a cached 4 KiB PREAD, 32 in flight, under a clock that
# counts instructions: the same figure whatever else the machine does.
#   BASE=1   the kernel without the series, to compare with
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$HARNESS/deps.sh" bench
"$HARNESS/tree.sh"
if [ "${BASE:-0}" = 1 ]; then
	src=$CACHE/base
	[ -d "$src" ] || git clone -q --shared --no-checkout "$TREE" "$src"
	git -C "$src" checkout -q -f --detach base
	image=$(kernel x86-base "$src")
else
	image=$(kernel x86)
fi
mkdir -p "$CACHE/bin"
gcc -O2 -Wall -static -o "$CACHE/bin/aio_bench" "$HARNESS/bench/aio_bench.c"
"$HARNESS/qemu-run.sh" -b -k "$image" -t 900 -o "$LOGS/bench-dmesg.log" -- "$CACHE/bin/aio_bench" "$@"
