#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# As uml-run.sh, for an x86_64 kernel under QEMU: with KVM where that really
# works, else by emulation, which is slow but exact.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$HARNESS/guest/job.sh"

usage() {
	cat <<-EOT
	usage: qemu-run.sh [options] [--] COMMAND [ARGUMENT...]
	  -k KERNEL   the bzImage         ($CACHE/build/x86/arch/x86/boot/bzImage)
	  -m MEMORY   guest memory        (1G)
	  -c CPUS     virtual CPUs        (2)
	  -t SECONDS  time for COMMAND    (600)
	  -o FILE     where dmesg goes    (thrown away)
	  -a OPTION   one more option for the kernel
	  -b          benchmark: one CPU whose clock counts instructions
	  -i          interactive: COMMAND gets the terminal
	EOT
}

# Neither the device file nor a virtual CPU that can be made proves anything: see
# whether the kernel says its first words.
kvm_works() {
	local words
	[ -w /dev/kvm ] || return 1
	words=$(mktemp)
	timeout 5 qemu-system-x86_64 -accel kvm -cpu host -M microvm,isa-serial=on -nodefaults \
		-no-user-config -no-reboot -display none -m 256M -serial "file:$words" \
		-kernel "$KERNEL" -append 'earlyprintk=ttyS0 panic=-1' > /dev/null 2>&1 || true
	grep -q 'Linux version' "$words" && rm "$words" && return 0
	rm "$words"
	return 1
}

KERNEL=$CACHE/build/x86/arch/x86/boot/bzImage
ICOUNT=0
job_options "$@"
shift "$JOB_SHIFT"
[ $# -gt 0 ] || { usage >&2; exit 2; }
[ -r "$KERNEL" ] || die "no kernel at $KERNEL"

job_create qemu "$@"
cmdline="console=ttyS0 root=host rootfstype=9p ro"
cmdline+=" rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose"
cmdline+=" init=$JOB/init aio_job=$JOB aio_guest=qemu reboot=t panic=-1 $APPEND"
args=(
	-M "microvm,acpi=off,x-option-roms=off,isa-serial=on,rtc=on" -nodefaults -no-user-config -no-reboot
	-display none -m "$MEM" -kernel "$KERNEL" -append "$cmdline"
	-serial "file:$JOB/console"
	-device virtio-serial-device -device "virtconsole,chardev=out"
	-drive "id=disk,file=$JOB/disk,format=raw,if=none,cache=unsafe"
	-device "virtio-blk-device,drive=disk"
	-fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
	-device "virtio-9p-device,fsdev=host,mount_tag=host"
	-fsdev "local,id=job,path=$JOB/share,security_model=none"
	-device "virtio-9p-device,fsdev=job,mount_tag=job"
)
if [ "$INTERACTIVE" = 1 ]; then
	args+=(-chardev "stdio,id=out,signal=off")
	saved_tty=$(stty -g) || true
else
	args+=(-chardev "file,id=out,path=/dev/stdout")
fi
if [ "$ICOUNT" = 1 ]; then
	args+=(-accel "tcg,thread=single" -icount "shift=1,sleep=off" -smp 1 -cpu "max,la57=off")
elif kvm_works; then
	args+=(-accel kvm -smp "$CPUS" -cpu host)
else
	args+=(-accel "tcg,thread=multi" -smp "$CPUS" -cpu "max,la57=off")
fi

# the guest does not outlive this script
bound=(setpriv --pdeathsig KILL)
rc=0
if [ "$INTERACTIVE" = 1 ]; then
	"${bound[@]}" qemu-system-x86_64 "${args[@]}" 2> "$JOB/stderr" || rc=$?
else
	# through a pipe, whatever standard output is: QEMU opens it by name
	"${bound[@]}" timeout --foreground -s KILL $((LIMIT + 120)) "${bound[@]}" qemu-system-x86_64 "${args[@]}" \
		2> "$JOB/stderr" < /dev/null | cat || rc=$?
fi
[ -z "${saved_tty:-}" ] || stty "$saved_tty" || true
job_end "$rc"
