/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Fill a struct iocb for the operations that threaded AIO contexts have and
 * libaio has no helpers for, in the style of libaio's io_prep_pread().
 *
 * This works with libaio's struct iocb and, if <linux/aio_abi.h> was included
 * before, with the kernel's, which is the same memory under other names.
 *
 * All helpers clear the iocb first: set its data, an eventfd or a priority
 * afterwards. io_submit() copies the iocb and what the helpers make it point
 * to: when it returns, paths and struct renameat_info may be used for
 * something else. Until then they have to stay.
 *
 * A plain context refuses these operations: io_submit() fails with EINVAL.
 * See Documentation/userspace-api/aio.rst.
 */
#ifndef AIO_PREP_H
#define AIO_PREP_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#if !defined(__LINUX__AIO_ABI_H) && !defined(__LIBAIO_H)
#include <libaio.h>
#endif
#include <linux/types.h>

/* For older <linux/aio_abi.h>, and for libaio, which does without it. */
#ifndef IOCB_CMD_OPENAT
#define IOCB_CMD_OPENAT		9
#endif
#ifndef IOCB_CMD_UNLINKAT
#define IOCB_CMD_UNLINKAT	10
#endif
#ifndef IOCB_CMD_READAHEAD
#define IOCB_CMD_READAHEAD	12
#endif
#ifndef IOCB_CMD_RENAMEAT
#define IOCB_CMD_RENAMEAT	13

struct renameat_info {
	__s64	olddirfd;
	__u64	oldpath;
	__s64	newdirfd;
	__u64	newpath;
	__u64	flags;
};
#endif

/* What the helpers have in common, and all that knows whose iocb it is. */
static inline void aio_prep_fields(struct iocb *iocb, int opcode, int fd,
				   const void *buf, size_t nbytes,
				   long long offset)
{
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_lio_opcode = opcode;
	iocb->aio_fildes = fd;
#ifdef __LINUX__AIO_ABI_H
	iocb->aio_buf = (uintptr_t)buf;
	iocb->aio_nbytes = nbytes;
	iocb->aio_offset = offset;
#else
	iocb->u.c.buf = (void *)buf;
	iocb->u.c.nbytes = nbytes;
	iocb->u.c.offset = offset;
#endif
}

/**
 * io_prep_openat() - open a file, as openat(2) does
 * @iocb: the request to fill
 * @dirfd: directory that a relative @path begins at, or AT_FDCWD
 * @path: name of the file
 * @flags: O_RDONLY, O_CREAT and so on
 * @mode: permissions of a file that is created, before the umask
 *
 * The result in the event is the new descriptor, or a negative error number.
 *
 * @flags go to the kernel as they are: a 32-bit program whose off_t has 64 bits
 * has to add O_LARGEFILE itself.
 */
static inline void io_prep_openat(struct iocb *iocb, int dirfd,
				  const char *path, int flags, mode_t mode)
{
	aio_prep_fields(iocb, IOCB_CMD_OPENAT, dirfd, path, 0,
			(__u64)mode << 32 | (__u32)flags);
}

/**
 * io_prep_unlinkat() - remove a name, as unlinkat(2) does
 * @iocb: the request to fill
 * @dirfd: directory that a relative @path begins at, or AT_FDCWD
 * @path: the name
 * @flags: 0, or AT_REMOVEDIR for an empty directory
 *
 * The result in the event is 0, or a negative error number.
 */
static inline void io_prep_unlinkat(struct iocb *iocb, int dirfd,
				    const char *path, int flags)
{
	aio_prep_fields(iocb, IOCB_CMD_UNLINKAT, dirfd, path, 0, flags);
}

/**
 * io_prep_readahead() - bring a part of a file into the page cache
 * @iocb: the request to fill
 * @fd: the file
 * @count: length of the part in bytes
 * @offset: where it begins
 *
 * Unlike readahead(2), which only starts the reads, this is done when they are.
 * The result in the event is how many bytes of the part are in the page cache
 * and up to date, less than @count only at the end of the file, or a negative
 * error number.
 */
static inline void io_prep_readahead(struct iocb *iocb, int fd, size_t count,
				     long long offset)
{
	aio_prep_fields(iocb, IOCB_CMD_READAHEAD, fd, NULL, count, offset);
}

/**
 * io_prep_renameat() - rename or move a file, as renameat2(2) does
 * @iocb: the request to fill
 * @info: memory for the arguments, which do not fit into an iocb
 * @olddirfd: directory that a relative @oldpath begins at, or AT_FDCWD
 * @oldpath: the present name
 * @newdirfd: directory that a relative @newpath begins at, or AT_FDCWD
 * @newpath: the new name
 * @flags: 0, or RENAME_NOREPLACE and so on
 *
 * @info is filled here; the caller only provides it. Requests that are
 * submitted together need one each.
 *
 * The result in the event is 0, or a negative error number.
 */
static inline void io_prep_renameat(struct iocb *iocb,
				    struct renameat_info *info,
				    int olddirfd, const char *oldpath,
				    int newdirfd, const char *newpath,
				    unsigned int flags)
{
	info->olddirfd = olddirfd;
	info->oldpath = (uintptr_t)oldpath;
	info->newdirfd = newdirfd;
	info->newpath = (uintptr_t)newpath;
	info->flags = flags;
	aio_prep_fields(iocb, IOCB_CMD_RENAMEAT, 0, info, sizeof(*info), 0);
}

#endif /* AIO_PREP_H */
