# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2094
#
# What all scripts of the harness share: where things are, how to speak, how to
# build a kernel.  Sourced, never run.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HARNESS=$HERE/harness
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/aio-thread
TREE=${TREE:-$CACHE/linux}
LOGS=$CACHE/logs
DL=$CACHE/dl
BINDGEN_VERSION=0.72.1
# Clang objects to asm-generic/io.h of 7.3 under UML, in every file.
UML_CFLAGS=-Wno-null-pointer-arithmetic
# Its large code model puts data into sections that UML's linker script does not
# know, where lockdep and kmemleak do not look.
DEBUG_CFLAGS='-mlarge-data-threshold=2147483647 -Wno-unused-command-line-argument'
JOBS=${JOBS:-$(nproc)}

say() { printf '==> %s\n' "$*" >&2; }
die() {
	# of whatever went wrong on a full disk, that is the reason
	local room
	room=$(df -Pk "$CACHE" 2>/dev/null | awk 'NR == 2 { print $4 }') || true
	[ "${room:-65536}" -ge 65536 ] || set -- "$* (the disk of $CACHE is full: XDG_CACHE_HOME=/elsewhere make ...)"
	printf 'error: %s\n' "$*" >&2
	exit 1
}
# Some children take Ctrl-C for themselves and end in order (UML, kunit.py): the
# script would go on with the next step.
trap 'trap - INT; kill -INT $$' INT
have() { command -v "$1" >/dev/null 2>&1; }

# Kbuild takes no path with a blank or a colon in it, QEMU none with a comma.
case $CACHE$TREE in
*[!A-Za-z0-9._/+@~-]*)
	die "a kernel cannot be built in \"$CACHE\"; choose a plain path: XDG_CACHE_HOME=/var/tmp/cache make ..." ;;
esac
mkdir -p "$LOGS" "$DL" 2>/dev/null ||
	die "cannot write to $CACHE; choose another place: XDG_CACHE_HOME=/var/tmp/cache make ..."

# Which names the distribution's toolchain goes by. That follows from the release
# and not from what is installed, which may be nothing yet: Debian 12 has its newer
# LLVM beside the default one, with a suffix, and its newer rustc as rustc-web.
if grep -qs '^VERSION_ID="12"' /etc/os-release; then
	BOOKWORM=1 LLVM=-19 LLVM_BIN=/usr/lib/llvm-19/bin
else
	BOOKWORM=0 LLVM=1 LLVM_BIN=/usr/bin
fi

# The mirror that this machine's packages come from; empty if there is none.
mirror() {
	# shellcheck disable=SC2016 # the $() are apt's
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v code="$(. /etc/os-release; echo "${VERSION_CODENAME:-}")" \
			'$3 == "main" && ($2 == code || $2 == "stable") && !n++ { print $1 }'
}

# PATH and variables for a kernel build.  /usr/bin comes before whatever rustup
# or pyenv put in front, because kernel and bindgen must see one and the same
# compiler.  The fixed time stamp lets ccache answer for every file.
kernel_env() {
	local v
	export PATH="/usr/lib/ccache:$CACHE/cargo/bin:$LLVM_BIN:/usr/bin:/bin:/usr/sbin:/sbin:$PATH"
	[ "$LLVM" = 1 ] || export LIBCLANG_PATH=/usr/lib/llvm-19/lib
	export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970'
	export KBUILD_BUILD_USER=aio KBUILD_BUILD_HOST=aio
	export CCACHE_DIR="$CACHE/ccache" CCACHE_MAXSIZE=8G CCACHE_NOHASHDIR=1
	# Debian 12 keeps the library source where rustc does not look for it.
	v=$(/usr/bin/rustc --version 2>/dev/null | awk '{print $2}') || true
	if [ -d "/usr/src/rustc-$v/library" ]; then
		export RUST_LIB_SRC="/usr/src/rustc-$v/library"
	fi
	unset LOCALVERSION MAKEFLAGS MAKELEVEL ARCH CROSS_COMPILE KCFLAGS
}

# kmake SRC OUT ARCH ARGS...: make in a kernel tree, out of tree.  The empty
# LOCALVERSION keeps the release string from changing with every commit.
kmake() {
	local src=$1 out=$2 arch=$3
	shift 3
	case $arch,$out in
	um,*-debug) set -- KCFLAGS="$UML_CFLAGS $DEBUG_CFLAGS" "$@" ;;
	um,*) set -- KCFLAGS="$UML_CFLAGS" "$@" ;;
	esac
	make -C "$src" O="$out" ARCH="$arch" LLVM="$LLVM" LOCALVERSION= "$@"
}

# configure SRC OUT ARCH FRAGMENT...: everything that the fragments do not name
# is off.  .config is touched only when something changed, so that a build with
# nothing to do stays quick.
configure() {
	local src=$1 out=$2 arch=$3 line
	shift 3
	mkdir -p "$out"
	# of two lines for one option the last one counts
	cat "$@" | tac | awk '{ name = $1 == "#" ? $2 : $1; sub(/=.*/, "", name) }
		name ~ /^CONFIG_/ && !seen[name]++' > "$out/.fragments.new"
	# shellcheck disable=SC2016 # $@ and $0 are the inner shell's
	if cmp -s "$out/.fragments.new" "$out/.fragments" && [ -e "$out/.config" ] &&
	   [ -z "$(cd "$src" && sed -n 's/^\t\([^ $]*Kconfig[^ ]*\).*/\1/p' \
			"$out/include/config/auto.conf.cmd" 2>/dev/null |
			xargs -r sh -c 'find "$@" -newer "$0"' "$out/.fragments" || echo changed)" ]; then
		rm "$out/.fragments.new"
		return
	fi
	KCONFIG_CONFIG=.config.new KCONFIG_ALLCONFIG="$out/.fragments.new" \
		kmake "$src" "$out" "$arch" -s allnoconfig \
		> "$out/.config.log" 2>&1 || { cat "$out/.config.log" >&2; return 1; }
	grep -vxFf "$out/.config.new" "$out/.fragments.new" | grep '^CONFIG_' |
		while read -r line; do
			# before the series there is no AIO_THREAD to switch on
			[ "$line" != CONFIG_AIO_THREAD=y ] ||
				grep -qs '^config AIO_THREAD$' "$src/init/Kconfig" || continue
			say "warning: Kconfig does not take $line"
		done || true
	if cmp -s "$out/.config.new" "$out/.config"; then
		rm -f "$out/.config.new"
	else
		mv "$out/.config.new" "$out/.config"
	fi
	mv "$out/.fragments.new" "$out/.fragments"
}

# progress LABEL LOG PID: while PID runs, how far the build whose output goes to
# LOG has come: one line that rewrites itself on a terminal, else one every 30 s.
progress() {
	local label=$1 log=$2 pid=$3 start=$SECONDS last=$SECONDS n
	while kill -0 "$pid" 2>/dev/null; do
		# wait for the build to end, but look up now and then
		timeout 2 tail --pid="$pid" -f /dev/null 2>/dev/null || true
		n=$(grep -cE '^  [A-Z]' "$log" || true)
		if [ -t 2 ]; then
			printf '\r    %s: %d steps, %d s ' "$label" "$n" $((SECONDS - start)) >&2
		elif [ $((SECONDS - last)) -ge 30 ]; then
			last=$SECONDS
			printf '    %s: %d steps, %d s\n' "$label" "$n" $((SECONDS - start)) >&2
		fi
	done
	[ ! -t 2 ] || printf '\r%60s\r' '' >&2
}

# build FLAVOUR SRC OUT ARCH TARGET... with .config in place
build() {
	local flavour=$1 src=$2 out=$3 arch=$4 log=$LOGS/build-$1.log pid rc=0 start=$SECONDS
	shift 4
	kmake "$src" "$out" "$arch" -j"$JOBS" "$@" > "$log" 2>&1 &
	pid=$!
	progress "building $flavour" "$log" "$pid"
	wait "$pid" || rc=$?
	[ $rc -le 128 ] || die "the build of the $flavour kernel was interrupted; the next one goes on from there"
	if [ $rc != 0 ]; then
		grep -nE 'error|Error|\*\*\*' "$log" | head -20 >&2 || true
		tail -15 "$log" >&2
		die "the $flavour kernel does not build; whole log: $log"
	fi
	say "$flavour kernel built in $((SECONDS - start)) s"
}

# kernel FLAVOUR [SRC]: configures and builds one of our kernels, prints the path
# of what can be booted.  One build at a time: the machine may be small.
kernel() {
	local flavour=$1 src=${2:-$TREE} out arch image frags
	out=$CACHE/build/$flavour
	case $flavour in
	uml*) arch=um image=linux
		frags=("$HARNESS/configs/uml.config" "$HARNESS/configs/security.config") ;;
	x86-sec*) arch=x86_64 image=arch/x86/boot/bzImage
		frags=("$HARNESS"/configs/{x86,security,suspend}.config) ;;
	x86*) arch=x86_64 image=arch/x86/boot/bzImage frags=("$HARNESS/configs/x86.config") ;;
	*) die "no such flavour: $flavour" ;;
	esac
	case $flavour in *-debug*) frags+=("$HARNESS/configs/debug.config") ;; esac
	case $flavour in *-n) frags+=("$HARNESS/configs/off.config") ;; esac
	"$HARNESS/deps.sh" bindgen
	mkdir -p "$CACHE"
	(
		flock -n 9 || { say 'waiting for another build to end'; flock 9; } || exit 1
		kernel_env
		configure "$src" "$out" "$arch" "${frags[@]}" || exit 1
		build "$flavour" "$src" "$out" "$arch" "$(basename "$image")"
	) 9> "$CACHE/build.lock" || return 1
	printf '%s\n' "$out/$image"
}

# build_selftests SRC OUT INSTALLED: the selftests, built and installed as
# tools/testing/selftests does it.
build_selftests() {
	local src=$1 out=$2 installed=$3
	say 'building the selftests'
	rm -rf "$installed"
	(
		kernel_env
		kmake "$src" "$out" x86_64 -j"$JOBS" headers &&
		make -C "$src/tools/testing/selftests" O="$out" TARGETS=aio CC=gcc \
			INSTALL_PATH="$installed" install
	) > "$LOGS/selftests.log" 2>&1 ||
		{ tail -20 "$LOGS/selftests.log" >&2; die 'the selftests do not build'; }
}
