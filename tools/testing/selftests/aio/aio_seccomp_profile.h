/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the default seccomp profile of Moby (Docker) lets a container do
 * whatever the arguments, its capabilities and the architecture:
 * seccomp/default.json of https://github.com/moby/profiles, as of seccomp/v0.2.3
 * (last changed in 3c28324314729dbade8287e868eef6338c42807a). All else fails with
 * EPERM, but for calls that it allows under conditions, which are not here.
 */
#ifndef _AIO_SECCOMP_PROFILE_H
#define _AIO_SECCOMP_PROFILE_H

#include <sys/syscall.h>

#define NR_TEXT_OF(nr)	#nr
#define NR_TEXT(nr)	NR_TEXT_OF(nr)

/* A number as text, or "__NR_..." where this architecture has no such call. */
#define NR(name)	{ #name, NR_TEXT(__NR_##name) }

static const struct {
	const char	*name;
	const char	*nr;
} profile_allows[] = {
	NR(accept), NR(accept4), NR(access), NR(adjtimex), NR(alarm), NR(bind),
	NR(brk), NR(cachestat), NR(capget), NR(capset), NR(chdir), NR(chmod),
	NR(chown), NR(chown32), NR(clock_adjtime), NR(clock_adjtime64),
	NR(clock_getres), NR(clock_getres_time64), NR(clock_gettime),
	NR(clock_gettime64), NR(clock_nanosleep), NR(clock_nanosleep_time64),
	NR(close), NR(close_range), NR(connect), NR(copy_file_range), NR(creat),
	NR(dup), NR(dup2), NR(dup3), NR(epoll_create), NR(epoll_create1),
	NR(epoll_ctl), NR(epoll_ctl_old), NR(epoll_pwait), NR(epoll_pwait2),
	NR(epoll_wait), NR(epoll_wait_old), NR(eventfd), NR(eventfd2),
	NR(execve), NR(execveat), NR(exit), NR(exit_group), NR(faccessat),
	NR(faccessat2), NR(fadvise64), NR(fadvise64_64), NR(fallocate),
	NR(fanotify_mark), NR(fchdir), NR(fchmod), NR(fchmodat), NR(fchmodat2),
	NR(fchown), NR(fchown32), NR(fchownat), NR(fcntl), NR(fcntl64),
	NR(fdatasync), NR(fgetxattr), NR(flistxattr), NR(flock), NR(fork),
	NR(fremovexattr), NR(fsetxattr), NR(fstat), NR(fstat64), NR(fstatat64),
	NR(fstatfs), NR(fstatfs64), NR(fsync), NR(ftruncate), NR(ftruncate64),
	NR(futex), NR(futex_requeue), NR(futex_time64), NR(futex_wait),
	NR(futex_waitv), NR(futex_wake), NR(futimesat), NR(getcpu), NR(getcwd),
	NR(getdents), NR(getdents64), NR(getegid), NR(getegid32), NR(geteuid),
	NR(geteuid32), NR(getgid), NR(getgid32), NR(getgroups), NR(getgroups32),
	NR(getitimer), NR(getpeername), NR(getpgid), NR(getpgrp), NR(getpid),
	NR(getppid), NR(getpriority), NR(getrandom), NR(getresgid),
	NR(getresgid32), NR(getresuid), NR(getresuid32), NR(getrlimit),
	NR(get_robust_list), NR(getrusage), NR(getsid), NR(getsockname),
	NR(getsockopt), NR(get_thread_area), NR(gettid), NR(gettimeofday),
	NR(getuid), NR(getuid32), NR(getxattr), NR(getxattrat),
	NR(inotify_add_watch), NR(inotify_init), NR(inotify_init1),
	NR(inotify_rm_watch), NR(io_cancel), NR(ioctl), NR(io_destroy),
	NR(io_getevents), NR(io_pgetevents), NR(io_pgetevents_time64),
	NR(ioprio_get), NR(ioprio_set), NR(io_setup), NR(io_submit), NR(ipc),
	NR(kill), NR(landlock_add_rule), NR(landlock_create_ruleset),
	NR(landlock_restrict_self), NR(lchown), NR(lchown32), NR(lgetxattr),
	NR(link), NR(linkat), NR(listen), NR(listmount), NR(listxattr),
	NR(listxattrat), NR(llistxattr), NR(_llseek), NR(lremovexattr),
	NR(lseek), NR(lsetxattr), NR(lstat), NR(lstat64), NR(madvise),
	NR(map_shadow_stack), NR(membarrier), NR(memfd_create),
	NR(memfd_secret), NR(mincore), NR(mkdir), NR(mkdirat), NR(mknod),
	NR(mknodat), NR(mlock), NR(mlock2), NR(mlockall), NR(mmap), NR(mmap2),
	NR(mprotect), NR(mq_getsetattr), NR(mq_notify), NR(mq_open),
	NR(mq_timedreceive), NR(mq_timedreceive_time64), NR(mq_timedsend),
	NR(mq_timedsend_time64), NR(mq_unlink), NR(mremap), NR(mseal),
	NR(msgctl), NR(msgget), NR(msgrcv), NR(msgsnd), NR(msync), NR(munlock),
	NR(munlockall), NR(munmap), NR(name_to_handle_at), NR(nanosleep),
	NR(newfstatat), NR(_newselect), NR(open), NR(openat), NR(openat2),
	NR(pause), NR(pidfd_open), NR(pidfd_send_signal), NR(pipe), NR(pipe2),
	NR(pkey_alloc), NR(pkey_free), NR(pkey_mprotect), NR(poll), NR(ppoll),
	NR(ppoll_time64), NR(prctl), NR(pread64), NR(preadv), NR(preadv2),
	NR(prlimit64), NR(process_mrelease), NR(pselect6), NR(pselect6_time64),
	NR(pwrite64), NR(pwritev), NR(pwritev2), NR(read), NR(readahead),
	NR(readlink), NR(readlinkat), NR(readv), NR(recv), NR(recvfrom),
	NR(recvmmsg), NR(recvmmsg_time64), NR(recvmsg), NR(remap_file_pages),
	NR(removexattr), NR(removexattrat), NR(rename), NR(renameat),
	NR(renameat2), NR(restart_syscall), NR(riscv_hwprobe), NR(rmdir),
	NR(rseq), NR(rt_sigaction), NR(rt_sigpending), NR(rt_sigprocmask),
	NR(rt_sigqueueinfo), NR(rt_sigreturn), NR(rt_sigsuspend),
	NR(rt_sigtimedwait), NR(rt_sigtimedwait_time64), NR(rt_tgsigqueueinfo),
	NR(sched_getaffinity), NR(sched_getattr), NR(sched_getparam),
	NR(sched_get_priority_max), NR(sched_get_priority_min),
	NR(sched_getscheduler), NR(sched_rr_get_interval),
	NR(sched_rr_get_interval_time64), NR(sched_setaffinity),
	NR(sched_setattr), NR(sched_setparam), NR(sched_setscheduler),
	NR(sched_yield), NR(seccomp), NR(select), NR(semctl), NR(semget),
	NR(semop), NR(semtimedop), NR(semtimedop_time64), NR(send),
	NR(sendfile), NR(sendfile64), NR(sendmmsg), NR(sendmsg), NR(sendto),
	NR(setfsgid), NR(setfsgid32), NR(setfsuid), NR(setfsuid32), NR(setgid),
	NR(setgid32), NR(setgroups), NR(setgroups32), NR(setitimer),
	NR(setpgid), NR(setpriority), NR(setregid), NR(setregid32),
	NR(setresgid), NR(setresgid32), NR(setresuid), NR(setresuid32),
	NR(setreuid), NR(setreuid32), NR(setrlimit), NR(set_robust_list),
	NR(setsid), NR(setsockopt), NR(set_thread_area), NR(set_tid_address),
	NR(setuid), NR(setuid32), NR(setxattr), NR(setxattrat), NR(shmat),
	NR(shmctl), NR(shmdt), NR(shmget), NR(shutdown), NR(sigaltstack),
	NR(signalfd), NR(signalfd4), NR(sigprocmask), NR(sigreturn),
	NR(socketcall), NR(socketpair), NR(splice), NR(stat), NR(stat64),
	NR(statfs), NR(statfs64), NR(statmount), NR(statx), NR(symlink),
	NR(symlinkat), NR(sync), NR(sync_file_range), NR(syncfs), NR(sysinfo),
	NR(tee), NR(tgkill), NR(time), NR(timer_create), NR(timer_delete),
	NR(timer_getoverrun), NR(timer_gettime), NR(timer_gettime64),
	NR(timer_settime), NR(timer_settime64), NR(timerfd_create),
	NR(timerfd_gettime), NR(timerfd_gettime64), NR(timerfd_settime),
	NR(timerfd_settime64), NR(times), NR(tkill), NR(truncate),
	NR(truncate64), NR(ugetrlimit), NR(umask), NR(uname), NR(unlink),
	NR(unlinkat), NR(uretprobe), NR(utime), NR(utimensat),
	NR(utimensat_time64), NR(utimes), NR(vfork), NR(vmsplice), NR(wait4),
	NR(waitid), NR(waitpid), NR(write), NR(writev),
};

#undef NR

#endif /* _AIO_SECCOMP_PROFILE_H */
