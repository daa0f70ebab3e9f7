# SPDX-License-Identifier: GPL-2.0
# The commands a person types; what they do stands in harness/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test attack shell tree refresh check check-each check-fresh bench clean distclean

help:
	@echo 'Threaded AIO for Linux, in Rust.  On a Debian machine:'
	@echo
	@echo '  make run         boot a kernel with the series, copy thousands of files with it'
	@echo '  make test        KUnit and kselftests, under a debug kernel too'
	@echo '  make attack      takes out one guard of security at a time, and sees the attack succeed'
	@echo '  make shell       a prompt in the patched kernel'
	@echo '  make bench       cost of each operation, in guest instructions (BASE=1: without the series)'
	@echo
	@echo 'For work on the series:'
	@echo
	@echo '  make tree        the kernel git tree: tag "base", branch "aio-thread"'
	@echo '                   (KERNEL=tree-or-tarball, RELEASE=7.3.N)'
	@echo '  make refresh     its commits -> patches/ and the copies of new files'
	@echo '  make check       series applies, copies are equal, style and static checks'
	@echo '  make check-each  every patch builds and boots, AIO_THREAD y and n'
	@echo '  make check-fresh the README'\''s commands in fresh roots of Debian 12 and 13; hours'
	@echo '                   (RELEASES=13 COMMANDS="make run" SEED=1)'
	@echo '  make clean       remove what was built; distclean: downloads and the tree, too'
	@echo
	@echo 'Everything made is kept in $${XDG_CACHE_HOME:-~/.cache}/aio-thread.'

run test attack shell tree refresh bench check-fresh:
	@harness/$@.sh

check:
	@harness/deps.sh check
	@harness/check.sh

check-each:
	@harness/deps.sh run
	@harness/check.sh each

clean distclean:
	@harness/clean.sh $@
