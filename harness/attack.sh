#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make attack: takes out one guard at a time, and sees the attacks that it is
# there for succeed, and no others.  The guards are in attack/guards.py; they are
# made switchable in a copy of the tree, never in the tree itself.  Ends with a
# table, and "N passed, N failed".
#   GUARDS='umask,seccomp'   only these
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$HARNESS/deps.sh" test
"$HARNESS/tree.sh"
src=$CACHE/attack
[ -d "$src" ] || git clone -q --shared --no-checkout "$TREE" "$src"
git -C "$src" fetch -q "$TREE" aio-thread
# only what differs gets a new time stamp: the build stays short
new=$(git -C "$src" rev-parse FETCH_HEAD)
git -C "$src" reset -q --hard 2>/dev/null || true
git -C "$src" checkout -q --detach "$new"
python3 "$HARNESS/attack/attack.py" plant "$src"
build_selftests "$src" "$CACHE/build/selftests-attack" "$CACHE/selftests-attack"
image=$(kernel uml-attack "$src")
mkdir -p "$CACHE/results"
export ATTACK_LOGS=$LOGS
python3 "$HARNESS/attack/attack.py" run "$image" "$CACHE/selftests-attack/aio" \
	"$CACHE/results/attack.md" "${GUARDS:-}"
