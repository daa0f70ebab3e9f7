// SPDX-License-Identifier: GPL-2.0
/*
 * Security modules that judge by task, or exempt kernel threads, cannot judge a
 * worker: where one is active, operations on paths run in the submitter, as the
 * system calls. Which modules there are is decided at boot; one that has no
 * policy, as TOMOYO has none here, changes nothing.
 */
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "../kselftest_harness.h"
#include "aio_ops.h"

#define SECURITYFS	"/sys/kernel/security"
#define LSM_LIST	SECURITYFS "/lsm"

#ifndef SECURITYFS_MAGIC
#define SECURITYFS_MAGIC	0x73636673
#endif

static bool has_module(const char *module)
{
	struct statfs sb;
	char list[256];
	char *name, *at;

	/* Stays mounted, as on any system. */
	if (statfs(SECURITYFS, &sb) || sb.f_type != SECURITYFS_MAGIC)
		mount("securityfs", SECURITYFS, "securityfs", 0, NULL);
	if (aio_read_text(LSM_LIST, list, sizeof(list)) <= 0)
		return false;
	for (name = strtok_r(list, ",\n", &at); name;
	     name = strtok_r(NULL, ",\n", &at))
		if (!strcmp(name, module))
			return true;
	return false;
}

FIXTURE(lsm)
{
	struct aio_env env;
	aio_context_t ctx;
	char dir[32];
	long long here;		/* in the submitter, one path operation is */
	long long before;	/* in the submitter, before the test */
};

FIXTURE_VARIANT(lsm)
{
	bool force;
};

FIXTURE_VARIANT_ADD(lsm, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(lsm, forced)
{
	.force = true,
};

FIXTURE_SETUP(lsm)
{
	AIO_SETUP(&self->env, true, variant->force, 16);
	self->ctx = self->env.ctx;
	strcpy(self->dir, "/tmp/aio_lsm.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, chdir(self->dir));
	ASSERT_TRUE(aio_put("file", "content"));
	self->here = has_module("smack");
	self->before = aio_stat("submitter");
}

FIXTURE_TEARDOWN(lsm)
{
	unlink("file");
	unlink("other");
	EXPECT_EQ(0, chdir("/"));
	EXPECT_EQ(0, rmdir(self->dir));
	AIO_TEARDOWN(&self->env);
}

TEST_F(lsm, openat)
{
	struct iocb cb;
	long long res;

	iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
	res = aio_run(self->ctx, &cb);
	ASSERT_LE(0, res);
	EXPECT_TRUE(aio_holds(res, "content"));
	close(res);
	iocb_openat(&cb, AT_FDCWD, "missing", O_RDONLY, 0);
	EXPECT_EQ(-ENOENT, aio_run(self->ctx, &cb));
	iocb_openat(&cb, AT_FDCWD, "", O_RDONLY, 0);
	EXPECT_EQ(-ENOENT, aio_run(self->ctx, &cb));
	iocb_openat(&cb, -1, "file", O_RDONLY, 0);
	EXPECT_EQ(AIO_REFUSED(EBADF), aio_run(self->ctx, &cb));
	EXPECT_EQ(self->before + 3 * self->here, aio_stat("submitter"));
}

TEST_F(lsm, openat_creates)
{
	struct iocb cb;
	long long res;

	iocb_openat(&cb, AT_FDCWD, "other", O_WRONLY | O_CREAT | O_EXCL, 0600);
	res = aio_run(self->ctx, &cb);
	EXPECT_TRUE(aio_exists("other"));
	ASSERT_LE(0, res);
	close(res);
	EXPECT_EQ(self->before + self->here, aio_stat("submitter"));
}

TEST_F(lsm, unlinkat)
{
	struct iocb cb;

	iocb_unlinkat(&cb, AT_FDCWD, "file", 0);
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
	EXPECT_FALSE(aio_exists("file"));
	EXPECT_EQ(self->before + self->here, aio_stat("submitter"));
}

TEST_F(lsm, renameat)
{
	int dir = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct renameat_info info;
	struct iocb cb;

	ASSERT_LE(0, dir);
	iocb_renameat(&cb, &info, AT_FDCWD, "file", dir, "other", 0);
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
	EXPECT_FALSE(aio_exists("file"));
	EXPECT_TRUE(aio_exists("other"));
	EXPECT_EQ(self->before + self->here, aio_stat("submitter"));
	close(dir);
}

/* Smack denies what it denies to the system calls. */
static int child_smack_denied(void)
{
	static const char label[] = "aio_subject";
	struct renameat_info info;
	aio_context_t ctx = 0;
	struct iocb cb;

	if (aio_write_text("/proc/self/attr/current", label) ||
	    setresuid(65534, 65534, 65534) || sys_io_setup(1, &ctx))
		return 1;
	if (open("file", O_RDONLY) != -1 || errno != EACCES ||
	    rename("file", "other") != -1 || errno != EACCES ||
	    unlink("file") != -1 || errno != EACCES)
		return 2;
	iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
	if (aio_run(ctx, &cb) != -EACCES)
		return 3;
	iocb_renameat(&cb, &info, AT_FDCWD, "file", AT_FDCWD, "other", 0);
	if (aio_run(ctx, &cb) != -EACCES)
		return 4;
	iocb_unlinkat(&cb, AT_FDCWD, "file", 0);
	return aio_run(ctx, &cb) == -EACCES ? 0 : 5;
}

TEST_F(lsm, smack_denies)
{
	int status;
	pid_t pid;

	if (!has_module("smack"))
		SKIP(return, "no Smack");
	ASSERT_EQ(0, setxattr("file", "security.SMACK64", "aio_object", 10, 0));
	ASSERT_EQ(0, chmod(".", 0777));
	ASSERT_EQ(0, chmod("file", 0666));
	pid = fork();
	if (!pid)
		_exit(child_smack_denied());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	/* 1: set-up, 2: the system calls, 3 to 5: open, rename, unlink by AIO */
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_TRUE(aio_exists("file"));
	EXPECT_EQ(self->before + 3, aio_stat("submitter"));
}

/* A module that judges each datagram by the task has the submitter send it. */
TEST_F(lsm, sockets)
{
	struct iocb cb;
	char buf[8];
	int sk[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sk));
	iocb_pwrite(&cb, sk[0], "datagram", 8, 0);
	EXPECT_EQ(8, aio_run(self->ctx, &cb));
	EXPECT_EQ(8, read(sk[1], buf, sizeof(buf)));
	EXPECT_EQ(self->before + self->here, aio_stat("submitter"));
	close(sk[0]);
	close(sk[1]);
}

/* The file was opened by a system call, which every module has seen. */
TEST_F(lsm, descriptors)
{
	struct iocb cb;
	char buf[16];
	int fd = open("file", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	iocb_pwrite(&cb, fd, "CONTENT", 7, 0);
	EXPECT_EQ(7, aio_run(self->ctx, &cb));
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(7, aio_run(self->ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "CONTENT", 7));
	iocb_rw(&cb, IOCB_CMD_FSYNC, fd, 0, 0, 0);
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
	iocb_readahead(&cb, fd, 7, 0);
	EXPECT_EQ(7, aio_run(self->ctx, &cb));
	close(fd);
}

TEST_HARNESS_MAIN
