#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: format.sh BASE BRANCH DIRECTORY: git format-patch in the one form that
# does not change from run to run or from machine to machine.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
[ -n "$(git -C "$TREE" rev-list "$1..$2")" ] || exit 0
git -C "$TREE" -c core.abbrev=12 -c diff.algorithm=histogram -c diff.renames=true \
	format-patch -q --numbered --no-signature --zero-commit --no-thread --no-base \
	--stat=72 -o "$3" "$1..$2"
