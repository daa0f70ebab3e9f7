# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# A job is a directory that host and guest share: the command to run goes in, its
# exit code and the kernel's messages come out.  Sourced by the runners.

job_options() {
	local opt
	MEM=1G CPUS=2 LIMIT=600 DMESG=/dev/null INTERACTIVE=0 APPEND='' OPTIND=1
	while getopts k:m:c:t:o:a:ibh opt; do
		case $opt in
		k) KERNEL=$OPTARG ;;
		m) MEM=$OPTARG ;;
		c) CPUS=$OPTARG ;;
		t) LIMIT=$OPTARG ;;
		o) DMESG=$OPTARG ;;
		a) APPEND=$OPTARG ;;
		i) INTERACTIVE=1 ;;
		b) ICOUNT=1 ;;
		h) usage; exit 0 ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	JOB_SHIFT=$((OPTIND - 1))
}

# job_create GUEST COMMAND...
job_create() {
	local guest=$1
	shift
	mkdir -p "$CACHE/jobs"
	JOB=$(mktemp -d "$CACHE/jobs/$guest.XXXXXX")
	trap 'rm -rf "$JOB"' EXIT
	mkdir "$JOB/share"
	# the kernel's command line has no place for a clone whose path has a blank
	cp "$HARNESS/guest/init" "$JOB/init"
	# what the command needs may be where the guest mounts its own file systems
	printf '%s\n' "$HERE" "$CACHE" "$TREE" "$PWD" > "$JOB/share/paths"
	{
		printf 'cd %q 2>/dev/null || cd /tmp\n' "$PWD"
		printf '%q ' "$@"
		printf '\n'
	} > "$JOB/share/cmd"
	printf '%s\n' "$LIMIT" > "$JOB/share/limit"
	printf '%s\n' "$INTERACTIVE" > "$JOB/share/interactive"
	# a command whose output goes to no terminal shall see none
	[ ! -t 1 ] || : > "$JOB/share/terminal"
	if [ "$INTERACTIVE" = 1 ]; then
		stty size > "$JOB/share/size" 2>/dev/null || true
	fi
	# a scratch disk: the guest's init finds it at /mnt/ext4
	truncate -s "${DISK:-1G}" "$JOB/disk"
	PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard \
		-O ^has_journal "$JOB/disk" < /dev/null
}

# job_end RC: hands on what the guest left behind, exits as the command did
job_end() {
	local rc=$1
	if [ -s "$JOB/share/dmesg" ]; then
		cat "$JOB/share/dmesg" > "$DMESG"
	else
		cat "$JOB/console" > "$DMESG"
	fi
	if [ -s "$JOB/share/hung" ]; then
		say "the command did not end within $LIMIT s; its tasks, and where they slept:"
		head -n 60 "$JOB/share/hung" >&2
	fi
	if [ -s "$JOB/share/rc" ]; then
		exit "$(cat "$JOB/share/rc")"
	fi
	tail -n 40 "$JOB/console" "$JOB/stderr" >&2 2>/dev/null || true
	why=$(cat "$JOB/console" "$JOB/stderr" 2>/dev/null | grep -aoE 'aio-guest: .*|Kernel panic.*' | tail -1) || true
	if [ "$rc" = 137 ]; then
		say "the guest did not end within $LIMIT s and was killed; its last messages are above${why:+: $why}"
		exit 124
	fi
	say "the guest ended (code $rc) before its command did${why:+: $why}; its last messages are above"
	exit 125
}
