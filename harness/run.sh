#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make run: the main job.  Builds a User Mode Linux kernel with the series, boots
# it as the user who typed it, and does threaded AIO on real files in it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$HARNESS/deps.sh" run
"$HARNESS/tree.sh"
image=$(kernel uml)

mkdir -p "$CACHE/bin"
aiocp=$CACHE/bin/aiocp
if [ "$TREE/samples/aio/aiocp.c" -nt "$aiocp" ] || [ "$TREE/samples/aio/aio_prep.h" -nt "$aiocp" ]; then
	gcc -O2 -Wall -o "$aiocp" "$TREE/samples/aio/aiocp.c"
fi

say 'booting it'
exec "$HARNESS/uml-run.sh" -k "$image" -t 300 -o "$LOGS/run-dmesg.log" -- \
	"$HARNESS/guest/run" "$aiocp" "$TREE/Documentation"
