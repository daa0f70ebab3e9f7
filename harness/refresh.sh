#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make refresh: writes what the kernel tree's branch "aio-thread" holds to this
# repo: patches/, a copy of every file the series adds, the MAINTAINERS entry.
# usage: refresh.sh [DIRECTORY]  (the repo; check.sh gives another one)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
DEST=${1:-$HERE}
git_tree() { git -C "$TREE" "$@"; }
git_tree rev-parse -q --verify base > /dev/null || die "no kernel tree at $TREE: make tree"
n=$(git_tree rev-list --count base..aio-thread)
[ "$n" != 0 ] || die "branch aio-thread of $TREE has no commits after \"base\""

# ---- patches/ --------------------------------------------------------------
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
"$HARNESS/format.sh" base aio-thread "$new"
{
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	printf 'From %040d Mon Sep 17 00:00:00 2001\n' 0
	# the one author whose mail git am passes over
	git_tree log -1 --format='From: Mail System Internal Data <%ae>%nDate: %aD' aio-thread
	printf 'Subject: [PATCH %0*d/%d] ' ${#n} 0 "$n"
	head -1 "$HARNESS/cover-letter.txt"
	sed 1d "$HARNESS/cover-letter.txt"
	git_tree log -1 --format='%nMade against %s.%n' base | sed 's/ (base)//'
	git_tree shortlog -w76,2,4 base..aio-thread < /dev/null
	git_tree diff -M --stat=72 --summary base aio-thread
} > "$new/0000-cover-letter.patch"
mkdir -p "$DEST/patches"
rsync -rc --delete --include='[0-9]*.patch' --exclude='*' "$new/" "$DEST/patches/"

# ---- copies ----------------------------------------------------------------
# Every top-level directory that the kernel has too holds copies only.
git_tree diff --no-renames --name-only -z --diff-filter=A base aio-thread -- '*/*' > "$new/files"
git_tree ls-tree -d --name-only base > "$new/dirs"
while read -r d; do
	rm -rf "${DEST:?}/$d"
done < "$new/dirs"
mapfile -d '' -t files < "$new/files"
if [ ${#files[@]} != 0 ]; then
	git_tree archive aio-thread -- "${files[@]}" | tar -xf - -C "$DEST"
fi

# ---- MAINTAINERS -----------------------------------------------------------
git_tree diff -U0 base aio-thread -- MAINTAINERS | sed -n '/^+++/d; s/^+//p' |
	sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' > "$new/MAINTAINERS"
if [ -s "$new/MAINTAINERS" ]; then
	cp "$new/MAINTAINERS" "$DEST/MAINTAINERS"
else
	rm -f "$DEST/MAINTAINERS"
fi
if [ "$DEST" = "$HERE" ]; then
	git_tree update-ref refs/aio-thread/applied aio-thread
	say "patches/: $n patches; ${#files[@]} files copied"
	[ -z "$(git_tree status --porcelain --untracked-files=no)" ] ||
		say "note: the tree has changes that are in no commit; they were left out"
fi
