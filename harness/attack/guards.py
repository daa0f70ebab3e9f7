# SPDX-License-Identifier: GPL-2.0
"""The guards that keep a request within its submitter's rights.

Each can be switched off in the kernel that "make attack" builds, by its number,
and then the attacks named with it, and no others, have to succeed. @G@ in a
replacement stands for that number. The texts are those of the series: a change
of one of these lines is to be followed here, which "make attack" asks for.
"""

AIO = 'fs/aio_thread/'

# What lets the guards be switched.
SWITCH = [
    ('include/linux/aio.h', 'struct task_struct *aio_get_task(void);\n',
     'extern int aio_guard_off;\n'
     '#define aio_guard(n)\t(READ_ONCE(aio_guard_off) != (n))\n'
     'extern int aio_attack_fd[2];\n'
     'struct task_struct *aio_get_task(void);\n'),
    (AIO + 'glue.c', 'static bool aio_force_worker;\n',
     'int aio_guard_off;\nEXPORT_SYMBOL_GPL(aio_guard_off);\nint aio_attack_fd[2];\n'
     'static bool aio_force_worker;\n'),
    (AIO + 'glue.c', '	debugfs_create_bool("force_worker"',
     '	debugfs_create_u32("guard_off", 0600, dir, (u32 *)&aio_guard_off);\n'
     '	debugfs_create_bool("force_worker"'),
    (AIO + 'ffi.rs', '/// How many requests of a user may be in workers.\n',
     '/// Whether a guard is there.\n'
     'pub(crate) fn guard(n: i32) -> bool {\n'
     '    // SAFETY: A number, which may change at any time.\n'
     '    unsafe { core::ptr::addr_of!(bindings::aio_guard_off).read_volatile() != n }\n'
     '}\n\n'
     '/// How many requests of a user may be in workers.\n'),
]


class Guard:
    """A guard: what SPEC calls the row, how it is taken out, who notices."""

    def __init__(self, name, row, edits, attacks, boot='', wide=False):
        self.name, self.row, self.edits = name, row, edits
        self.attacks, self.boot = attacks.split(), boot
        # without it so little works that other attacks succeed, too
        self.wide = wide


GUARDS = [
    Guard('credentials', 'user and group ids, capabilities, keyrings, LSM label, Landlock domain', [
        (AIO + 'glue.c', 'saved->cred = override_creds(task->cred);',
         'saved->cred = override_creds(aio_guard(@G@) ? task->cred : current_cred());'),
    ], 'identity.uid identity.groups identity.capabilities identity.no_new_privs_and_suid '
       'identity.keyrings identity.landlock identity.proc_self identity.socket_peer'),
    Guard('changed identity', 'the identity is shared only as long as nothing has changed', [
        (AIO + 'glue.c', 'bool aio_task_is_current(const struct aio_task *task)\n{\n',
         'bool aio_task_is_current(const struct aio_task *task)\n{\n'
         '	if (!aio_guard(@G@))\n		return true;\n'),
    ], 'identity.uid', wide=True),
    Guard('address space', 'address space', [
        (AIO + 'glue.c', 'void aio_use_mm(struct mm_struct *mm)\n{\n',
         'void aio_use_mm(struct mm_struct *mm)\n{\n'
         '	static struct mm_struct *first;\n\n'
         '	if (!aio_guard(@G@)) {\n'
         '		if (!first || !atomic_read(&first->mm_users)) {\n'
         '			mmgrab(mm);\n			first = mm;\n		}\n'
         '		mm = first;\n	}\n'),
        (AIO + 'glue.c', '	kthread_unuse_mm(mm);\n', '	kthread_unuse_mm(current->mm);\n'),
    ], 'identity.address_space'),
    Guard('root directory', 'root', [
        # that of the submitter when it runs
        (AIO + 'path.c', '	saved->fs = current->fs;\n',
         '	if (!aio_guard(@G@)) {\n'
         '		struct task_struct *task = aio_get_task();\n'
         '		struct path old = context->fs->root;\n\n'
         '		if (task && task->fs) {\n'
         '			get_fs_root(task->fs, &context->fs->root);\n'
         '			path_put(&old);\n		}\n'
         '		if (task)\n			put_task_struct(task);\n	}\n'
         '	saved->fs = current->fs;\n'),
    ], 'identity.root identity.mount_namespace'),
    Guard('working directory', 'working directory', [
        (AIO + 'path.c', '	get_nsproxy(context->nsproxy);\n',
         '	get_nsproxy(context->nsproxy);\n'
         '	if (!aio_guard(@G@)) {\n'
         '		path_put(&context->fs->pwd);\n'
         '		context->fs->pwd = context->fs->root;\n'
         '		path_get(&context->fs->pwd);\n	}\n'),
    ], 'identity.working_directory'),
    Guard('umask', 'umask', [
        (AIO + 'path.c', '	saved->outer = current->aio_task;\n',
         '	if (!aio_guard(@G@))\n		context->fs->umask = 0;\n'
         '	saved->outer = current->aio_task;\n'),
    ], 'identity.umask'),
    Guard('namespaces', 'mount and other namespaces', [
        (AIO + 'path.c', '	aio_set_nsproxy(context->nsproxy);\n',
         '	if (aio_guard(@G@))\n		aio_set_nsproxy(context->nsproxy);\n'),
    ], 'identity.mount_namespace'),
    Guard('directory descriptors', 'descriptor table: directories as of submission', [
        (AIO + 'path.c', 'struct fd aio_dirfd(int dfd)\n{\n	struct file * const *dir = current->aio_task->dir;\n',
         'struct fd aio_dirfd(int dfd)\n{\n	struct file * const *dir = current->aio_task->dir;\n\n'
         '	if (!aio_guard(@G@) && (dfd == 0 || dfd == 1)) {\n'
         '		struct task_struct *task = get_pid_task(current->aio_task->pid, PIDTYPE_PID);\n'
         '		struct file *file = task ? fget_task(task, aio_attack_fd[dfd]) : NULL;\n\n'
         '		return file ? (struct fd){ (unsigned long)file | FDPUT_FPUT } : EMPTY_FD;\n	}\n'),
        (AIO + 'ffi.rs', '        // INVARIANT: It comes with a reference.\n        *slot = file;\n',
         '        // SAFETY: For the attack.\n'
         '        unsafe { bindings::aio_attack_fd[self.nr] = fd };\n'
         '        // INVARIANT: It comes with a reference.\n        *slot = file;\n'),
    ], 'identity.directory_descriptor', wide=True),
    Guard('reserved descriptor', 'descriptor table: the new descriptor is reserved', [
        (AIO + 'path.c', '	*fd = ret;\n	files_hold(current->files);\n',
         '	*fd = ret;\n	if (!aio_guard(@G@))\n		put_unused_fd(ret);\n'
         '	files_hold(current->files);\n'),
        (AIO + 'path.c', '	return files_fd_install(files, fd, file) ? 0 : -ECANCELED;\n',
         '	if (!aio_guard(@G@)) {\n'
         '		spin_lock(&files->file_lock);\n'
         '		__set_bit(fd, files_fdtable(files)->open_fds);\n'
         '		rcu_assign_pointer(files_fdtable(files)->fd[fd], file);\n'
         '		spin_unlock(&files->file_lock);\n'
         '		return 0;\n	}\n'
         '	return files_fd_install(files, fd, file) ? 0 : -ECANCELED;\n'),
    ], 'identity.reserved_descriptor', wide=True),
    Guard('RLIMIT_NOFILE', 'RLIMIT_NOFILE', [
        (AIO + 'path.c', '	int ret = get_unused_fd_flags(flags);\n',
         '	int ret = aio_guard(@G@) ? get_unused_fd_flags(flags) :\n'
         '		__get_unused_fd_flags(flags, 1 << 20);\n'),
    ], 'identity.descriptor_limit'),
    Guard('/proc/self', '/proc/self', [
        ('fs/proc/self.c', 'pid_nr_ns(aio_task_tgid(), ns)',
         '(aio_guard(@G@) ? pid_nr_ns(aio_task_tgid(), ns) : task_tgid_nr_ns(current, ns))'),
    ], 'identity.proc_self'),
    Guard('/proc/thread-self', '/proc/thread-self', [
        ('fs/proc/thread_self.c', '	pid_t pid = pid_nr_ns(aio_task_pid(), ns);\n',
         '	pid_t pid = aio_guard(@G@) ? pid_nr_ns(aio_task_pid(), ns) :\n'
         '		task_pid_nr_ns(current, ns);\n'),
    ], 'identity.proc_self'),
    Guard('same process', 'what a process may see of itself, and a changed one not', [
        (AIO + 'path.c', 'return task_tgid(task) == aio->tgid && aio_is_submitter(task);',
         'return task_tgid(task) == aio->tgid &&\n'
         '	       (!aio_guard(@G@) || aio_is_submitter(task));'),
    ], 'identity.proc_self'),
    Guard('opening devices', 'devices are opened by the submitter', [
        (AIO + 'path.c', '	*done = false;\n	/* These call nothing. */\n',
         '	*done = false;\n	if (!aio_guard(@G@))\n		return NULL;\n	/* These call nothing. */\n'),
    ], 'identity.controlling_terminal identity.control_files'),
    Guard('device cgroup', 'device cgroup', [
        ('security/device_cgroup.c', '	task = aio_acting_for();\n',
         '	task = aio_guard(@G@) ? aio_acting_for() : current;\n'),
    ], 'identity.device_cgroup'),
    Guard('control files and devices', 'what a worker may not open', [
        (AIO + 'path.c', '	if (!aio_is_worker())\n		return true;\n	switch (inode',
         '	if (!aio_is_worker() || !aio_guard(@G@))\n		return true;\n	switch (inode'),
    ], 'identity.control_files'),
    Guard('message queues', 'what a worker may not make', [
        ('ipc/mqueue.c', '	if (aio_is_worker())\n',
         '	if (aio_is_worker() && aio_guard(@G@))\n'),
    ], 'identity.control_files'),
    Guard('socket credentials', 'what a peer is told of the sender', [
        ('include/net/scm.h', 'scm_set_cred(scm, aio_task_tgid(),',
         'scm_set_cred(scm, aio_guard(@G@) ? aio_task_tgid() : task_tgid(current),'),
        ('net/unix/af_unix.c', '		pid = aio_task_tgid();\n',
         '		pid = aio_guard(@G@) ? aio_task_tgid() : task_tgid(current);\n'),
    ], 'identity.socket_peer'),
    Guard('RLIMIT_FSIZE', 'RLIMIT_FSIZE', [
        (AIO + 'glue.c', '	return aio ? aio->fsize : rlimit(RLIMIT_FSIZE);\n',
         '	return aio && aio_guard(@G@) ? aio->fsize : rlimit(RLIMIT_FSIZE);\n'),
    ], 'charge.file_size_limit charge.file_size_signal'),
    Guard('signals', 'SIGXFSZ and SIGPIPE go to the submitting thread', [
        ('kernel/signal.c', 'void io_send_sig(int sig)\n{\n	struct task_struct *task = aio_get_task();\n',
         'void io_send_sig(int sig)\n{\n	struct task_struct *task = aio_guard(@G@) ?\n'
         '		aio_get_task() : get_task_struct(current);\n'),
    ], 'charge.file_size_signal charge.pipe_signal'),
    Guard('changed submitter', 'no signal to a program that has changed its credentials', [
        (AIO + 'glue.c', '	return rcu_access_pointer(task->real_cred) == current->aio_task->cred;\n',
         '	return !aio_guard(@G@) ||\n'
         '	       rcu_access_pointer(task->real_cred) == current->aio_task->cred;\n'),
    ], 'charge.pipe_signal'),
    Guard('memory cgroup', 'memory cgroup', [
        (AIO + 'glue.c', '	return set_active_memcg(memcg);\n',
         '	return set_active_memcg(aio_guard(@G@) ? memcg : root_mem_cgroup);\n'),
    ], 'charge.memory_cgroup'),
    Guard('block cgroup', 'block cgroup', [
        (AIO + 'glue.c', '	kthread_associate_blkcg(css);\n',
         '	kthread_associate_blkcg(aio_guard(@G@) ? css : blkcg_root_css);\n'),
    ], 'charge.block_cgroup'),
    Guard('I/O accounting', 'per-task I/O accounting', [
        (AIO + 'glue.c', '	task = aio_process();\n	if (task) {\n		struct signal_struct',
         '	task = aio_guard(@G@) ? aio_process() : NULL;\n	if (task) {\n		struct signal_struct'),
    ], 'charge.io_accounting'),
    Guard('I/O priority', 'I/O priority', [
        (AIO + 'glue.c', '	if (get_current_ioprio() == ioprio)\n		return -1;\n',
         '	if (get_current_ioprio() == ioprio || !aio_guard(@G@))\n		return -1;\n'),
    ], 'charge.io_priority'),
    Guard('audit login', 'audit login id and session', [
        (AIO + 'glue.c', 'static void aio_audit_swap(kuid_t *loginuid, unsigned int *sessionid)\n{\n',
         'static void aio_audit_swap(kuid_t *loginuid, unsigned int *sessionid)\n{\n'
         '	if (!aio_guard(@G@))\n		return;\n'),
    ], 'charge.audit_identity'),
    Guard('fanotify', 'fanotify names the submitter', [
        ('fs/notify/fanotify/fanotify.c', '		pid = aio_task_tgid();\n',
         '		pid = aio_guard(@G@) ? aio_task_tgid() : task_tgid(current);\n'),
    ], 'charge.fanotify_pid'),
    Guard('control file I/O', 'control files are read and written by the submitter', [
        (AIO + 'glue.c', '	if (!aio_worker_may(file) ||',
         '	if ((!aio_worker_may(file) && aio_guard(@G@)) ||'),
    ], 'charge.control_file_io charge.terminal_job_control charge.terminal_of_stopped_job'),
    Guard('userfaultfd', 'userfaultfd names the submitter', [
        ('mm/userfaultfd.c', '	struct pid *pid = aio_task_pid();\n',
         '	struct pid *pid = aio_guard(@G@) ? aio_task_pid() : task_pid(current);\n'),
    ], 'charge.userfaultfd_thread'),
    Guard('PR_SET_IO_FLUSHER', 'PR_SET_IO_FLUSHER', [
        (AIO + 'glue.c', '	aio_set_flags(task->flags);\n',
         '	aio_set_flags(aio_guard(@G@) ? task->flags : 0);\n'),
    ], 'charge.io_flusher'),
    Guard('memory policy', 'memory policy and the cpuset\'s nodes', [
        (AIO + 'glue.c', '	aio_set_mempolicy(task->mempolicy);\n',
         '	if (aio_guard(@G@))\n		aio_set_mempolicy(task->mempolicy);\n'),
        (AIO + 'glue.c', '	saved->other_mems = !nodes_equal(',
         '	saved->other_mems = aio_guard(@G@) && !nodes_equal('),
    ], 'charge.memory_nodes', 'numa=fake=2'),
    Guard('seccomp', 'seccomp', [
        (AIO + 'path.c', '	if (likely(seccomp_mode(&current->seccomp) == SECCOMP_MODE_DISABLED))\n		return 1;\n',
         '	if (likely(seccomp_mode(&current->seccomp) == SECCOMP_MODE_DISABLED) || !aio_guard(@G@))\n		return 1;\n'),
    ], 'seccomp.error_numbers'),
    Guard('stack limit', 'RLIMIT_STACK and the like', [
        (AIO + 'glue.c', '	if (!current->aio_task)\n		return rlimit(limit);\n',
         '	if (!current->aio_task || !aio_guard(@G@))\n		return rlimit(limit);\n'),
    ], 'charge.stack_limit'),
    Guard('audit rules', 'paths are the submitter\'s where audit is recording', [
        (AIO + 'path.c', '	return audit_enabled && !audit_dummy_context();\n',
         '	return audit_enabled && !audit_dummy_context() && aio_guard(@G@);\n'),
    ], 'charge.audit_records'),
    Guard('Smack', 'paths are the submitter\'s where a module judges by task', [
        (AIO + 'path.c', '	return security_judges_by_task() || aio_audit_active();\n',
         '	return (security_judges_by_task() && aio_guard(@G@)) || aio_audit_active();\n'),
    ], 'lsm.openat lsm.openat_creates lsm.unlinkat lsm.renameat lsm.smack_denies', 'lsm=smack'),
    Guard('sockets under Smack', 'sockets are the submitter\'s where a module judges by task', [
        (AIO + 'glue.c', '		return !security_judges_by_task();\n',
         '		return !security_judges_by_task() || !aio_guard(@G@);\n'),
    ], 'lsm.sockets', 'lsm=smack'),
    Guard('bound of workers', 'workers are bounded per user', [
        (AIO + 'ffi.rs', '    // SAFETY: A number, which may change at any time.\n    unsafe { core::ptr::addr_of!(bindings::aio_thread_max_workers)',
         '    if !guard(@G@) {\n        return usize::MAX;\n    }\n'
         '    // SAFETY: A number, which may change at any time.\n    unsafe { core::ptr::addr_of!(bindings::aio_thread_max_workers)'),
    ], 'limits.bound'),
    Guard('turns', 'users take turns', [
        # one queue for everybody, first come, first served
        (AIO + 'user.rs', 'let may = self.ahead < AHEAD && self.ahead + self.running < max;',
         'let may = !ffi::guard(@G@) || (self.ahead < AHEAD && self.ahead + self.running < max);'),
    ], 'limits.in_turn'),
    Guard('user namespaces', 'user namespaces give no further share', [
        (AIO + 'glue.c', '	if (ns == &init_user_ns)\n		return __kuid_val(cred->uid);\n',
         '	if (ns == &init_user_ns || !aio_guard(@G@))\n		return __kuid_val(cred->uid);\n'),
    ], 'limits.user_namespaces'),
    Guard('charge of requests', 'requests are charged to the memory cgroup', [
        (AIO + 'glue.h', '#define AIO_GFP		(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL)\n',
         '#define AIO_GFP		((aio_guard(@G@) ? GFP_KERNEL_ACCOUNT : GFP_KERNEL) | __GFP_RETRY_MAYFAIL)\n'),
    ], 'charged.held_back'),
]
