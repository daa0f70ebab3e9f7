#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boots a User Mode Linux kernel and runs one command in it; no root, no KVM.
# The guest sees the host's files read-only; see harness/guest/init for what it
# can write to.  Exit code: the command's; 124 where it ran out of time, 125
# where the guest died.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$HARNESS/guest/job.sh"

usage() {
	cat <<-EOT
	usage: uml-run.sh [options] [--] COMMAND [ARGUMENT...]
	  -k KERNEL   the UML binary      ($CACHE/build/uml/linux)
	  -m MEMORY   guest memory        (1G)
	  -c CPUS     virtual CPUs        (2)
	  -t SECONDS  time for COMMAND    (600)
	  -o FILE     where dmesg goes    (thrown away)
	  -a OPTION   one more option for the kernel
	  -i          interactive: COMMAND gets the terminal
	EOT
}

KERNEL=$CACHE/build/uml/linux
job_options "$@"
shift "$JOB_SHIFT"
[ $# -gt 0 ] || { usage >&2; exit 2; }
[ -x "$KERNEL" ] || die "no kernel at $KERNEL"

job_create uml "$@"
args=(
	"mem=$MEM" "ncpus=$CPUS" seccomp=on
	root=/dev/root rootfstype=hostfs rootflags=/ ro
	"ubd0=$JOB/disk" "init=$JOB/init" "aio_job=$JOB" aio_guest=uml
	# kernel messages to file descriptor 3, the command's output to standard output
	console=tty1 "con1=null,fd:3" "umid=aio-$$" "uml_dir=$JOB/uml"
)
[ -z "$APPEND" ] || args+=("$APPEND")
if [ "$INTERACTIVE" = 1 ]; then args+=("con0=fd:0,fd:1"); else args+=("con0=null,fd:1"); fi

# /dev/shm may be too small for the guest's memory in a container
export TMPDIR=$JOB
[ "$INTERACTIVE" != 1 ] || saved_tty=$(stty -g) || true
# the guest does not outlive this script
bound=(setpriv --pdeathsig KILL)
rc=0
if [ "$INTERACTIVE" = 1 ]; then
	"${bound[@]}" "$KERNEL" "${args[@]}" 3> "$JOB/console" 2> "$JOB/stderr" || rc=$?
else
	# through pipes: UML polls its channels, which plain files do not take
	"${bound[@]}" timeout --foreground -s KILL $((LIMIT + 60)) "${bound[@]}" "$KERNEL" "${args[@]}" \
		3> >(cat > "$JOB/console") 2> "$JOB/stderr" < /dev/null | cat || rc=$?
fi
[ -z "${saved_tty:-}" ] || stty "$saved_tty" || true
job_end "$rc"
