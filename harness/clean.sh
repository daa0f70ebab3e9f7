#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: clean.sh clean|distclean
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rm -rf "${CACHE:?}/build" "${CACHE:?}/bin" "$CACHE/jobs" "$CACHE/selftests" "$CACHE/results" \
	"$CACHE/selftests-attack" "$CACHE/each" "$CACHE/base" "$CACHE/attack" "$CACHE/fresh"
[ "$1" = distclean ] || exit 0
# The tree may hold work that is nowhere else.
if [ -d "$TREE/.git" ] && { [ -n "$(git -C "$TREE" status --porcelain)" ] ||
	[ "$(git -C "$TREE" rev-parse aio-thread)" != "$(git -C "$TREE" rev-parse -q --verify refs/aio-thread/applied)" ]; }; then
	die "$TREE has work that patches/ does not have; make refresh, or remove it by hand"
fi
rm -rf "${TREE:?}" "$TREE.new" "${CACHE:?}"
