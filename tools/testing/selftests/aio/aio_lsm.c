// SPDX-License-Identifier: GPL-2.0
/*
 * Security modules that judge by task, or exempt kernel threads, cannot judge a
 * worker: where one is active, operations on paths are refused. Which modules
 * are active is decided at boot.
 */
#include <sys/statfs.h>

#include "../kselftest_harness.h"
#include "aio_ops.h"

#define SECURITYFS	"/sys/kernel/security"
#define LSM_LIST	SECURITYFS "/lsm"

#ifndef SECURITYFS_MAGIC
#define SECURITYFS_MAGIC	0x73636673
#endif

static bool by_task(void)
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
		if (!strcmp(name, "smack") || !strcmp(name, "tomoyo"))
			return true;
	return false;
}

FIXTURE(lsm)
{
	struct aio_env env;
	aio_context_t ctx;
	char dir[32];
	long long refused;	/* what a path operation gives, if refused */
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
	self->refused = by_task() ? AIO_REFUSED(EOPNOTSUPP) : 0;
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
	if (self->refused) {
		EXPECT_EQ(self->refused, res);
		return;
	}
	ASSERT_LE(0, res);
	EXPECT_TRUE(aio_holds(res, "content"));
	close(res);
}

TEST_F(lsm, openat_creates_nothing)
{
	struct iocb cb;
	long long res;

	iocb_openat(&cb, AT_FDCWD, "other", O_WRONLY | O_CREAT | O_EXCL, 0600);
	res = aio_run(self->ctx, &cb);
	EXPECT_EQ(!self->refused, aio_exists("other"));
	if (self->refused) {
		EXPECT_EQ(self->refused, res);
		return;
	}
	ASSERT_LE(0, res);
	close(res);
}

TEST_F(lsm, unlinkat)
{
	struct iocb cb;

	iocb_unlinkat(&cb, AT_FDCWD, "file", 0);
	EXPECT_EQ(self->refused, aio_run(self->ctx, &cb));
	EXPECT_EQ(!!self->refused, aio_exists("file"));
}

TEST_F(lsm, renameat)
{
	struct renameat_info info;
	struct iocb cb;

	iocb_renameat(&cb, &info, AT_FDCWD, "file", AT_FDCWD, "other", 0);
	EXPECT_EQ(self->refused, aio_run(self->ctx, &cb));
	EXPECT_EQ(!!self->refused, aio_exists("file"));
	EXPECT_EQ(!self->refused, aio_exists("other"));
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
