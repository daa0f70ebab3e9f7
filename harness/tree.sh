#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make tree: lays out the kernel git tree: the base commit, tagged "base", and the
# series on branch "aio-thread".  What was worked on there is never thrown away.
#
#   KERNEL=PATH    use this 7.3 tree or tarball as the base
#   RELEASE=7.3.N  this release instead of the newest 7.3
set -euo pipefail
. "$(dirname "$0")/lib.sh"

SERIES=7.3
RELEASE=${RELEASE:-}
# Commits made by this script look the same wherever it runs.
export GIT_COMMITTER_NAME=aio-thread GIT_COMMITTER_EMAIL=aio-thread@localhost

# ---- sources ---------------------------------------------------------------

fetch() { # URL FILE
	if have curl; then
		curl -fsSL --connect-timeout 5 --max-time "${3:-600}" -o "$2" "$1"
	elif have wget; then
		wget -q --tries=1 --connect-timeout=5 -O "$2" "$1"
	else
		return 1
	fi
} 2>/dev/null

# Each source leaves the path of a tarball or a directory in FOUND, or fails.

from_user() {
	[ -n "${KERNEL:-}" ] || return 1
	[ -e "$KERNEL" ] || die "KERNEL=$KERNEL does not exist"
	FOUND=$(cd "$(dirname "$KERNEL")" && pwd)/$(basename "$KERNEL")
}

from_cache() {
	local f
	f=$(find "$DL" -maxdepth 1 -name "linux-${RELEASE:-$SERIES.*}.tar.xz" | sort -V | tail -1)
	[ -n "$f" ] || return 1
	# what was checked on arrival must still be the same
	(cd "$DL" && sha256sum --quiet -c "$(basename "$f").sha256") || return 1
	FOUND=$f
}

from_kernel_org() {
	local url=https://cdn.kernel.org/pub/linux/kernel/v${SERIES%%.*}.x sums=$DL/sha256sums.asc name
	fetch "$url/sha256sums.asc" "$sums" 20 || return 1
	name=$(grep -oE " linux-${RELEASE:-${SERIES}[.0-9]*}\.tar\.xz\$" "$sums" | tr -d ' ' | sort -V | tail -1)
	[ -n "$name" ] || return 1
	say "fetching $name from kernel.org"
	fetch "$url/$name" "$DL/$name.part" || return 1
	grep " $name\$" "$sums" | sed 's/$/.part/' | (cd "$DL" && sha256sum --quiet -c -) ||
		die "$name: checksum does not match sha256sums.asc"
	keep "$DL/$name.part" "$name"
}

# keep FILE NAME: into the download cache, with its checksum
keep() {
	# the checksum first: a tarball without one counts for nothing
	printf '%s  %s\n' "$(sha256sum < "$1" | cut -d' ' -f1)" "$2" > "$DL/$2.sha256"
	mv "$1" "$DL/$2"
	FOUND=$DL/$2
}

# The distribution's source package, from the mirror that this machine uses, by an
# apt configuration of our own: the machine's stays as it is.  apt checks the
# signature of the release file, and by it the package's checksum.
from_apt() {
	local apt=$CACHE/apt pkg=linux-source-$SERIES keyring uri suite deb v
	have apt-get || return 1
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -r "$keyring" ] || return 1
	uri=$(mirror)
	[ -n "$uri" ] || return 1
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	for suite in trixie-backports forky sid; do
		printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$suite" > "$apt/sources.list"
		cat > "$apt/apt.conf" <<-EOT
		Dir::Etc::SourceList "$apt/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::State::Lists "$apt/lists";
		Dir::Cache::archives "$apt/archives";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
		Acquire::Languages "none";
		APT::Get::List-Cleanup "false";
		APT::Sandbox::User "";
		EOT
		say "looking for $pkg in $suite"
		APT_CONFIG=$apt/apt.conf apt-get update > "$LOGS/apt-tree.log" 2>&1 || continue
		v=$(APT_CONFIG=$apt/apt.conf apt-cache show "$pkg" 2>/dev/null |
			sed -n "s/^Version: \(${RELEASE:-${SERIES}[.0-9]*}\)[-+~].*/\1/p" | head -1)
		[ -n "$v" ] || continue
		say "fetching $pkg ($v, 170 MB)"
		rm -rf "$apt/get"
		mkdir "$apt/get"
		(cd "$apt/get" && APT_CONFIG=$apt/apt.conf apt-get download "$pkg") \
			>> "$LOGS/apt-tree.log" 2>&1 || { tail -5 "$LOGS/apt-tree.log" >&2; continue; }
		deb=$(echo "$apt"/get/*.deb)
		dpkg-deb -x "$deb" "$apt/get/x"
		keep "$apt/get/x/usr/src/$pkg.tar.xz" "linux-$v.tar.xz"
		rm -rf "$apt/get"
		return
	done
	return 1
}

# ---- the base --------------------------------------------------------------

make_base() {
	local new=$TREE.new v
	from_user || from_cache || from_kernel_org || from_apt ||
		die "no source for Linux $SERIES: neither kernel.org nor a Debian mirror answers${https_proxy:+ (https_proxy=$https_proxy)}${http_proxy:+ (http_proxy=$http_proxy)}; fetch linux-$SERIES.N.tar.xz elsewhere and type: make run KERNEL=/path/to/it"
	say "unpacking $FOUND"
	rm -rf "$new"
	mkdir -p "$new"
	if [ -d "$FOUND/.git" ]; then
		git -C "$FOUND" archive HEAD | tar -xf - -C "$new"
	elif [ -d "$FOUND" ]; then
		rsync -a "$FOUND/" "$new/"
	else
		tar -xf "$FOUND" -C "$new" --strip-components=1 2> "$LOGS/tar.log" ||
			die "cannot unpack $FOUND: $(head -1 "$LOGS/tar.log")"
	fi
	v=$(awk '/^VERSION =/ {a=$3} /^PATCHLEVEL =/ {b=$3} /^SUBLEVEL =/ {print a "." b "." $3; exit}' \
		"$new/Makefile")
	case $v in
	"$SERIES".*) ;;
	*) die "this is Linux $v, the series is for $SERIES" ;;
	esac
	say "making it a git tree (Linux $v)"
	# Debian ignores all but its packaging in its source tree
	sed -i '/^# Debian packaging: ignore everything/,$d' "$new/.gitignore"
	git -C "$new" init -q -b aio-thread
	# One pack written in one go, hardly compressed: seconds count here, not
	# bytes.  gc would only spend them later.
	git -C "$new" config gc.auto 0
	git -C "$new" config core.compression 0
	git -C "$new" config core.autocrlf false
	git -C "$new" config index.version 4
	git -C "$new" -c core.bigFileThreshold=1 -c core.fsync=none add -A -f .
	GIT_AUTHOR_NAME=$GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL=$GIT_COMMITTER_EMAIL \
	GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' \
		git -C "$new" -c core.fsync=none commit -q --no-verify -m "Linux $v (base)"
	git -C "$new" tag base
	mv "$new" "$TREE"
}

# ---- the series ------------------------------------------------------------

git_tree() { git -C "$TREE" "$@"; }

# What the branch holds, in the form that patches/ has.
export_series() {
	rm -rf "$1"
	mkdir -p "$1"
	"$HARNESS/format.sh" base "${2:-aio-thread}" "$1"
}

# patches/ as one checksum: says whether they are what was applied last
series_sum() {
	(cd "$work/want" && find . -type f | sort | xargs -r sha256sum) | sha256sum | cut -d' ' -f1
}

# The tree and patches/ agree: remember it.
agreed() {
	git_tree update-ref refs/aio-thread/applied aio-thread
	git_tree config aio-thread.series "$(series_sum)"
	git_tree config --unset aio-thread.applying || true
}

apply_series() {
	local p patches=()
	for p in "$HERE"/patches/[0-9]*.patch; do
		case $p in */0000-*) ;; *) [ ! -e "$p" ] || patches+=("$p") ;; esac
	done
	if [ ${#patches[@]} != 0 ]; then
		say "applying ${#patches[@]} patches"
		if ! git_tree am -q --committer-date-is-author-date "${patches[@]}" > "$LOGS/am.log" 2>&1; then
			tail -20 "$LOGS/am.log" >&2
			git_tree am --abort
			return 1
		fi
	fi
	agreed
}

exec 9> "$CACHE/tree.lock"
flock -n 9 || { say 'waiting for another call that works on the tree'; flock 9; }
[ -d "$TREE/.git" ] || make_base
git_tree rev-parse -q --verify base > /dev/null || die "$TREE has no tag \"base\": not a tree of ours"

# A call that was interrupted while it applied the series left only what it had
# made itself: before that, all there was agreed with patches/.
if [ -n "$(git_tree config aio-thread.applying || true)" ]; then
	say "an earlier call was interrupted while it applied the series; starting that again"
	rm -f "$TREE/.git/index.lock"
	git_tree am --abort 2> /dev/null || rm -rf "$TREE/.git/rebase-apply"
	git_tree symbolic-ref HEAD refs/heads/aio-thread
	git_tree reset -q --hard base
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/want"
for p in "$HERE"/patches/[0-9]*.patch; do
	case $p in */0000-*) ;; *) [ ! -e "$p" ] || cp "$p" "$work/want/" ;; esac
done
export_series "$work/have"
dirty=$(git_tree status --porcelain --untracked-files=no | wc -l)

head=$(git_tree rev-parse aio-thread)
applied=$(git_tree rev-parse -q --verify refs/aio-thread/applied || true)

# Another git may format the same commits in another way: then what counts is that
# neither side changed since the last time.
if diff -rq "$work/have" "$work/want" > /dev/null ||
   { [ "$head" = "$applied" ] && [ "$(git_tree config aio-thread.series || true)" = "$(series_sum)" ]; }; then
	agreed
	say "$TREE has the series applied"
	[ "$dirty" = 0 ] || say "note: $dirty files there have changes that are in no commit"
	exit 0
fi

if [ "$head" != "$(git_tree rev-parse base)" ] && [ "$head" != "$applied" ]; then
	die "$TREE has commits that patches/ does not have.
  make refresh                              writes them to patches/
  git -C $TREE branch -m aio-thread mine && git -C $TREE branch aio-thread base && \\
  git -C $TREE checkout aio-thread && make tree    keeps them as \"mine\" and applies patches/"
fi
[ "$dirty" = 0 ] || die "$TREE has changes that are in no commit, and patches/ has changed: commit or drop them first"
[ "$(git_tree symbolic-ref -q --short HEAD)" = aio-thread ] ||
	die "$TREE is not on branch aio-thread: git -C $TREE checkout aio-thread"

# The branch is what an earlier patches/ made of it: build it anew.
git_tree config aio-thread.applying 1
git_tree reset -q --hard base
if ! apply_series; then
	git_tree reset -q --hard "$head"
	git_tree config --unset aio-thread.applying
	die "patches/ do not apply to $(git_tree log -1 --format=%s base); whole log: $LOGS/am.log"
fi
say "$TREE: $(git_tree log -1 --format=%s base), $(git_tree rev-list --count base..aio-thread) patches"
