#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make check: what patches/ and the copies promise is true, and the code is tidy.
# make check-each (argument "each"): every patch of the series builds and boots by
# itself, with AIO_THREAD y and n.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export GIT_COMMITTER_NAME=aio-thread GIT_COMMITTER_EMAIL=aio-thread@localhost
failed=0
git_tree() { git -C "$TREE" "$@"; }

# result WHAT RC [FILE with the reasons]
result() {
	if [ "$2" = 0 ]; then
		printf 'ok    %s\n' "$1"
	else
		printf 'FAIL  %s\n' "$1"
		[ -z "${3:-}" ] || sed 's/^/      /' "$3" | head -60
		failed=$((failed + 1))
	fi
}

patches() { find "$HERE/patches" -name '[0-9]*.patch' ! -name '0000-*' | sort; }

# The series' files of the given diff filter that end in one of the suffixes.
files() { git_tree diff --no-renames --name-only --diff-filter="$1" base aio-thread -- "${@:2}"; }

# A clone that borrows the tree's objects and checks out only what the series
# touches: quick, and the tree itself sees nothing of it.
check_applies() {
	local clone=$WORK/clone rc=0
	git clone -q --shared --no-checkout "$TREE" "$clone"
	git_tree diff --no-renames --name-only base aio-thread | sed 's,^,/,' |
		git -C "$clone" sparse-checkout set --no-cone --stdin
	git -C "$clone" checkout -q --detach "$(git_tree rev-parse base)"
	# as a user would type it, the cover letter included
	git -C "$clone" -c gc.auto=0 am "$HERE"/patches/*.patch > "$WORK/am" 2>&1 || rc=1
	result 'git am patches/*.patch on the base' $rc "$WORK/am"
	[ "$(git -C "$clone" rev-parse 'HEAD^{tree}')" = "$(git_tree rev-parse 'aio-thread^{tree}')" ] || rc=1
	result 'what that gives is what the tree has' $rc
}

check_copies() {
	local d rc=0
	"$HARNESS/refresh.sh" "$WORK/copy"
	diff -r "$WORK/copy/patches" "$HERE/patches" > "$WORK/diff" 2>&1 || rc=1
	result 'patches/ is what make refresh writes' $rc "$WORK/diff"
	rc=0
	: > "$WORK/diff"
	for d in $(git_tree ls-tree -d --name-only base); do
		[ -e "$HERE/$d" ] || [ -e "$WORK/copy/$d" ] || continue
		diff -rq "$WORK/copy/$d" "$HERE/$d" >> "$WORK/diff" 2>&1 || rc=1
	done
	cmp "$WORK/copy/MAINTAINERS" "$HERE/MAINTAINERS" >> "$WORK/diff" 2>&1 || rc=1
	result 'copied files equal the series, byte for byte' $rc "$WORK/diff"
}

check_fields() {
	local rc=0
	"$HARNESS/check-task-fields.py" "$TREE" > "$WORK/fields" 2>&1 || rc=1
	result 'every field of a task has a row in the table of what a worker has of it' $rc "$WORK/fields"
}

check_style() {
	local p rc ignore
	# TYPE of message, then why it is mistaken here
	ignore=$(sed -n 's/^\([A-Z_]*\)[[:space:]].*/\1/p' "$HARNESS/checkpatch-ignore" | paste -sd,)
	for p in $(patches); do
		rc=0
		(cd "$TREE" && perl scripts/checkpatch.pl --strict --show-types --color=never \
			${ignore:+--ignore "$ignore"} "$p") > "$WORK/style" 2>&1 || rc=1
		grep -q '^total: 0 errors, 0 warnings, 0 checks' "$WORK/style" || rc=1
		result "checkpatch --strict $(basename "$p")" $rc "$WORK/style"
	done
	rc=0
	files AM '*.rs' | sed "s,^,$TREE/," | xargs -r rustfmt --check --edition 2021 \
		--config-path "$TREE/.rustfmt.toml" > "$WORK/fmt" 2>&1 || rc=1
	result rustfmt $rc "$WORK/fmt"
	rc=0
	(cd "$HARNESS" && shellcheck -x ./*.sh guest/* ../.ci/run) > "$WORK/shell" 2>&1 || rc=1
	result shellcheck $rc "$WORK/shell"
}

# What a compiler or checker says of the series' own files; the rest is 7.3's.
said() { # LOG FILE...
	local log=$1
	shift
	grep -nE '(warning|error)(\[[A-Za-z0-9]+\])?:' -A6 "$log" | grep -FA3 "$(printf '%s\n' "$@")" || true
}

check_clippy() {
	local out=$CACHE/build/uml-clippy rc=0
	"$HARNESS/deps.sh" bindgen
	(
		flock 9
		kernel_env
		configure "$TREE" "$out" um "$HARNESS"/configs/{uml,security,kunit}.config || exit 1
		# clippy speaks only when it compiles
		(cd "$out" && rm -f rust/kernel.o fs/aio_thread/*.o) || true
		kmake "$TREE" "$out" um -j"$JOBS" CLIPPY=1 rust/ fs/aio_thread/
	) 9> "$CACHE/build.lock" > "$WORK/clippy" 2>&1 || rc=1
	[ $rc = 0 ] || { result 'clippy: build' 1 <(tail -30 "$WORK/clippy"); return; }
	# shellcheck disable=SC2046
	said "$WORK/clippy" $(files AM '*.rs') > "$WORK/said"
	result clippy "$([ -s "$WORK/said" ] && echo 1 || echo 0)" "$WORK/said"
}

# FILE:LINE of every line of C that the series adds or changes.
changed_lines() {
	git_tree diff -U0 --no-renames base aio-thread -- '*.c' '*.h' | awk '
		/^\+\+\+ b\// { file = substr($2, 3) }
		/^@@/ { split(substr($3, 2), at, ","); n = at[2] == "" ? 1 : at[2]
			for (i = 0; i < n; i++) print file ":" at[1] + i ":" }'
}

# 7.3 is not silent itself, so what counts is said of lines of the series. The
# sparse of Debian 12 does not know __typeof_unqual__, for which it is sent home.
check_sparse() {
	kernel uml > /dev/null
	local out=$CACHE/build/uml-clippy rc=0 f objs=()
	for f in $(files AM '*.c' ':!rust/helpers' ':!tools' ':!samples'); do
		# what the configuration does not have cannot be asked for
		[ ! -e "$CACHE/build/uml/${f%.c}.o" ] || objs+=("${f%.c}.o")
	done
	(
		flock 9
		kernel_env
		configure "$TREE" "$out" um "$HARNESS"/configs/{uml,security,kunit}.config || exit 1
		kmake "$TREE" "$out" um -j"$JOBS" C=2 \
			CHECK='sparse -D__typeof_unqual__=__typeof__' "${objs[@]}"
	) 9> "$CACHE/build.lock" > "$WORK/sparse" 2>&1 || rc=1
	[ "$(grep -c '^  CHECK ' "$WORK/sparse")" -ge ${#objs[@]} ] ||
		{ result 'sparse: has not looked at all files' 1 <(tail -5 "$WORK/sparse"); return; }
	changed_lines > "$WORK/lines"
	sed "s,^$TREE/,," "$WORK/sparse" | grep -E '^[^ ]+: (warning|error):' |
		grep -Ff "$WORK/lines" > "$WORK/said" || true
	[ ! -s "$WORK/said" ] || rc=1
	result sparse $rc "$WORK/said"
}

# The runner, from where a stranger may have put the clone: the guest has file
# systems of its own over all of these.  A place that cannot be written to fails.
check_runner() {
	local image place d rc
	image=$(kernel uml)
	for place in /tmp /run /mnt /dev/shm "$WORK/with a blank"; do
		rc=0
		{ mkdir -p "$place" && d=$(mktemp -d "$place/aio-check.XXXXXX"); } 2> "$WORK/runner" ||
			{ result "runner: from a clone in $place" 1 "$WORK/runner"; continue; }
		cp -r "$HARNESS" "$d/"
		# shellcheck disable=SC2016 # the guest's
		(cd "$d" && harness/uml-run.sh -k "$image" -t 60 -- \
			sh -c 'test -x "$1/harness/guest/run" && test -d harness && echo reached' sh "$d") \
			> "$WORK/runner" 2>&1 || rc=1
		grep -qx reached "$WORK/runner" || rc=1
		result "runner: from a clone in $place" $rc "$WORK/runner"
		rm -rf "$d"
	done
	rc=0
	(cd /tmp && "$HARNESS/uml-run.sh" -k "$image" -t 60 -- sh -c 'echo > /tmp/x && echo reached') \
		> "$WORK/runner" 2>&1 || rc=1
	grep -qx reached "$WORK/runner" || rc=1
	result 'runner: started in /tmp, which stays writable in the guest' $rc "$WORK/runner"
	rc=0
	"$HARNESS/uml-run.sh" -k "$image" -t 3 -- sleep 1000 > "$WORK/runner" 2>&1 || rc=$?
	[ $rc = 124 ] && grep -q ': sleep: State' "$WORK/runner" && rc=0 || rc=1
	result 'runner: a command that hangs ends, and is told where it sleeps' $rc "$WORK/runner"
	rc=0
	XDG_CACHE_HOME="$WORK/a b" "$HARNESS/uml-run.sh" -- true > "$WORK/runner" 2>&1 && rc=1
	[ "$(wc -l < "$WORK/runner")" = 1 ] && grep -q 'XDG_CACHE_HOME=' "$WORK/runner" || rc=1
	result 'runner: a cache with a blank is refused in one line' $rc "$WORK/runner"
}

check_each() {
	local src=$CACHE/each c n=0 v
	"$HARNESS/deps.sh" bindgen
	[ -d "$src" ] || git clone -q --shared --no-checkout "$TREE" "$src"
	for c in $(git_tree rev-list --reverse base..aio-thread); do
		n=$((n + 1))
		git -C "$src" fetch -q "$TREE" "$c" 2>/dev/null || git -C "$src" fetch -q origin
		git -C "$src" checkout -q -f --detach "$c"
		for v in y n; do
			local rc=0
			{ image=$(kernel "uml-each-$v" "$src") &&
				"$HARNESS/uml-run.sh" -k "$image" -t 60 -o "$WORK/dmesg" -- \
					sh -c "echo booted > /tmp/x && cat /tmp/x"; } > "$WORK/each" 2>&1 || rc=1
			grep -q booted "$WORK/each" || rc=1
			result "patch $n builds and boots, AIO_THREAD=$v: $(git_tree log -1 --format=%s "$c")" \
				$rc "$WORK/each"
		done
	done
}

git_tree rev-parse -q --verify base > /dev/null || die "no kernel tree at $TREE: make tree"
kernel_env
if [ "${1:-}" = each ]; then
	check_each
else
	check_applies
	check_copies
	check_fields
	check_style
	check_runner
	check_clippy
	check_sparse
fi
[ $failed = 0 ] || die "$failed checks failed"
say 'all checks passed'
