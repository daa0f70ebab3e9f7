#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: KUnit, then tools/testing/selftests/aio in a plain User Mode Linux
# and under a debug kernel; with security modules that judge by task; and in an
# x86_64 kernel under QEMU what needs one: 32-bit programs, protection keys, huge
# pages, suspend.  Ends with "N passed, N failed".
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$HARNESS/deps.sh" test
"$HARNESS/tree.sh"
OUT=$CACHE/results
rm -rf "$OUT"
mkdir -p "$OUT"
args=()
# which debug kernel: uml-debug, or x86-debug, which is slow without KVM
DEBUG=${DEBUG:-uml-debug}

# kunit: kunit.py configures, builds and boots by itself
kunit() {
	local build=$CACHE/build/kunit
	rm -f "$build/test.log"
	say 'KUnit'
	"$HARNESS/deps.sh" bindgen
	(
		flock 9
		kernel_env
		cd "$TREE"
		python3 tools/testing/kunit/kunit.py run --arch=um --build_dir="$build" \
			--kunitconfig=fs/aio_thread/.kunitconfig --jobs="$JOBS" --timeout=300 \
			--make_options="LLVM=$LLVM" --make_options=LOCALVERSION= \
			--make_options="KCFLAGS=$UML_CFLAGS"
	) 9> "$CACHE/build.lock" > "$OUT/kunit.log" 2>&1 || true
	grep -E 'PASSED|FAILED|CRASHED|SKIPPED|ERROR|error' "$OUT/kunit.log" || true
	[ ! -e "$build/test.log" ] || cp "$build/test.log" "$OUT/kunit.ktap"
	args+=("kunit=$OUT/kunit.ktap:$OUT/kunit.ktap")
}

# selftests LABEL SECONDS TESTS RUNNER OPTIONS...  (no TESTS: all of them)
selftests() {
	local label=$1 limit=$2 tests rc
	read -r -a tests <<< "$3"
	shift 3
	say "selftests: $label"
	set +e
	"$@" -t "$limit" -o "$OUT/$label.dmesg" -- "$HARNESS/guest/selftests" "$CACHE/selftests" \
		"${tests[@]}" 2> "$OUT/$label.err" | tee "$OUT/$label.ktap" |
		sed -n -u 's/^\(ok\|not ok\) [0-9]* selftests: /    &/p'
	rc=${PIPESTATUS[0]}
	set -e
	if [ "$rc" != 0 ]; then
		cat "$OUT/$label.err" >&2
		# the run's end is a result, too
		printf '\nnot ok 999 %s: ended with code %d\n' "$label" "$rc" >> "$OUT/$label.ktap"
	fi
	args+=("$label=$OUT/$label.ktap:$OUT/$label.dmesg")
}

# Builds first, so that one that fails is known early.
build_selftests "$TREE" "$CACHE/build/selftests" "$CACHE/selftests"
uml=$(kernel uml)
debug=$(kernel "$DEBUG")
x86=$(kernel x86-sec)
kunit
selftests uml 3000 '' "$HARNESS/uml-run.sh" -k "$uml"
selftests smack 120 aio_lsm "$HARNESS/uml-run.sh" -k "$uml" -a lsm=smack
selftests tomoyo 120 aio_lsm "$HARNESS/uml-run.sh" -k "$uml" -a lsm=tomoyo
selftests x86 2100 'aio_compat aio_life aio_charge aio_limits' "$HARNESS/qemu-run.sh" -k "$x86" \
	-a numa=fake=2
case $DEBUG in
uml*) selftests debug 4200 '' "$HARNESS/uml-run.sh" -m 2G -k "$debug" ;;
*) selftests debug 4200 '' "$HARNESS/qemu-run.sh" -m 2G -k "$debug" ;;
esac
say "logs: $OUT"
python3 "$HARNESS/results.py" "${args[@]}"
