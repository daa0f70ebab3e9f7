#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make shell: a prompt in the patched kernel.  The host's files are there,
# read-only; /tmp and /mnt/ext4 can be written to; "exit" ends the guest.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
"$HARNESS/deps.sh" run
"$HARNESS/tree.sh"
image=$(kernel uml)
say 'the guest is User Mode Linux; switch on with: sysctl fs.aio-auto-threads=1'
exec "$HARNESS/uml-run.sh" -i -k "$image" -o "$LOGS/shell-dmesg.log" -- bash --norc -i
