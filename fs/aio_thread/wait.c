// SPDX-License-Identifier: GPL-2.0
/*
 * Requests on the wait queues of a file, as many as its ->poll() has. What a
 * wake-up means to a request is for Rust to say; here is only how its entries
 * get on the queues and off again.
 *
 * An entry is on its queue from the call of aio_wait_queue() on, and leaves it
 * in one of two ways, both under the lock of the queue:
 *
 * - aio_wait_disarm() removes it. Nobody is in aio_wait_wake() with it then,
 *   and nobody gets there any more.
 * - The queue goes away before the file (POLLFREE): aio_wait_wake() removes
 *   it, and clears its ->head as the last thing. Whoever frees a queue so
 *   waits for an RCU grace period first; so aio_wait_disarm() may lock a queue
 *   that it has found in ->head under rcu_read_lock(), and sees then whether
 *   the entry is still on it.
 *
 * Locks: the queue's, then the request's state (aio_thread_wake()).
 */
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "glue.h"

struct aio_wait_entry {
	struct wait_queue_entry	wqe;
	struct wait_queue_head	*head;	/* NULL: not, or no longer, queued */
	struct aio_wait		*wait;
	struct aio_wait_entry	*next;	/* of those that were allocated */
};

struct aio_wait {
	struct poll_table_struct pt;
	struct file		*file;
	void			*req;
	__poll_t		events;
	bool			gone;	/* a queue went away */
	int			error;
	unsigned int		nr;
	struct aio_wait_entry	*more;
	/* Two are what a terminal or a FIFO has: one to read, one to write. */
	struct aio_wait_entry	first[2];
};

/**
 * aio_wait_new - make what a request needs to be on wait queues
 * @events: poll events that it waits for
 *
 * Context: The submitting task; sleeps for memory.
 * Return: the object, on no queues yet, or NULL.
 */
struct aio_wait *aio_wait_new(u32 events)
{
	struct aio_wait *wait = kzalloc_obj(*wait, AIO_GFP);

	if (wait)
		wait->events = (__force __poll_t)events;
	return wait;
}

/**
 * aio_wait_free - undo aio_wait_new()
 * @wait: the object; if it is still on queues, the file must be there
 *
 * Context: Any.
 */
void aio_wait_free(struct aio_wait *wait)
{
	struct aio_wait_entry *entry, *next;

	aio_wait_disarm(wait);
	for (entry = wait->more; entry; entry = next) {
		next = entry->next;
		kfree(entry);
	}
	kfree(wait);
}

static int aio_wait_wake(struct wait_queue_entry *wqe, unsigned int mode,
			 int sync, void *key)
{
	struct aio_wait_entry *entry =
		container_of(wqe, struct aio_wait_entry, wqe);
	struct aio_wait *wait = entry->wait;
	__poll_t mask = key_to_poll(key);

	if (mask & POLLFREE) {
		WRITE_ONCE(wait->gone, true);
		aio_thread_wake(wait->req);
		list_del_init(&wqe->entry);
		/* The last access: after this disarm does not take the lock. */
		smp_store_release(&entry->head, NULL);
		return 1;
	}
	if (!mask || mask & wait->events)
		aio_thread_wake(wait->req);
	return 1;
}

static struct aio_wait_entry *aio_wait_entry(struct aio_wait *wait)
{
	struct aio_wait_entry *entry;

	if (wait->nr < ARRAY_SIZE(wait->first)) {
		entry = &wait->first[wait->nr];
	} else {
		entry = kzalloc_obj(*entry, AIO_GFP);
		if (!entry)
			return NULL;
		entry->next = wait->more;
		wait->more = entry;
	}
	wait->nr++;
	return entry;
}

static void aio_wait_queue(struct file *file, struct wait_queue_head *head,
			   struct poll_table_struct *pt)
{
	struct aio_wait *wait = container_of(pt, struct aio_wait, pt);
	struct aio_wait_entry *entry;

	if (wait->error)
		return;
	entry = aio_wait_entry(wait);
	if (!entry) {
		wait->error = -ENOMEM;
		return;
	}
	entry->wait = wait;
	entry->head = head;
	init_waitqueue_func_entry(&entry->wqe, aio_wait_wake);
	add_wait_queue(head, &entry->wqe);
}

/**
 * aio_wait_arm - put a request on the wait queues of a file
 * @wait: object for that, on no queues
 * @file: the file, which has ->poll()
 * @req: passed to aio_thread_wake() from now on
 *
 * Context: The submitting task; sleeps for memory, and as ->poll() does.
 * Return: 1 if the file is ready, 0 if it is not, -EINVAL if it is not and has
 * no queues, -ENOMEM. aio_wait_disarm() must be called in any case.
 */
int aio_wait_arm(struct aio_wait *wait, struct file *file, void *req)
{
	__poll_t mask;

	wait->file = file;
	wait->req = req;
	init_poll_funcptr(&wait->pt, aio_wait_queue);
	wait->pt._key = wait->events;
	mask = vfs_poll(file, &wait->pt) & wait->events;
	/* From now on ->poll() is only asked. */
	wait->pt._qproc = NULL;
	if (wait->error)
		return wait->error;
	if (mask)
		return 1;
	return wait->nr ? 0 : -EINVAL;
}

static void aio_wait_entry_disarm(struct aio_wait_entry *entry)
{
	struct wait_queue_head *head;
	unsigned long flags;

	rcu_read_lock();
	/* Pairs with the release in aio_wait_wake(). */
	head = smp_load_acquire(&entry->head);
	if (head) {
		spin_lock_irqsave(&head->lock, flags);
		/* Unless POLLFREE has come first. */
		if (entry->head) {
			list_del_init(&entry->wqe.entry);
			entry->head = NULL;
		}
		spin_unlock_irqrestore(&head->lock, flags);
	}
	rcu_read_unlock();
}

/**
 * aio_wait_disarm - take a request from its wait queues
 * @wait: what aio_wait_arm() was called with
 *
 * Context: After aio_wait_arm() has returned, one thread at a time. Takes the
 * locks of the queues; does not sleep.
 */
void aio_wait_disarm(struct aio_wait *wait)
{
	struct aio_wait_entry *entry;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wait->first); i++)
		aio_wait_entry_disarm(&wait->first[i]);
	for (entry = wait->more; entry; entry = entry->next)
		aio_wait_entry_disarm(entry);
}

bool aio_wait_gone(const struct aio_wait *wait)
{
	return READ_ONCE(wait->gone);
}

/**
 * aio_wait_poll - ask the file that a request waits for
 * @wait: what aio_wait_arm() was called with
 *
 * Context: A worker that acts for the submitter. Sleeps as ->poll() does.
 * Return: which of the events are there, as user space knows them.
 */
u16 aio_wait_poll(struct aio_wait *wait)
{
	return aio_poll_now(wait->file, (__force u32)wait->events);
}

/**
 * aio_poll_now - poll a file without waiting
 * @file: the file
 * @events: poll events
 *
 * Context: Sleeps as ->poll() does.
 * Return: which of the events are there, as user space knows them.
 */
u16 aio_poll_now(struct file *file, u32 events)
{
	struct poll_table_struct pt = { ._key = (__force __poll_t)events };

	return mangle_poll(vfs_poll(file, &pt) & pt._key);
}

struct aio_queue_count {
	struct poll_table_struct pt;
	unsigned int		nr;
};

static void aio_count_queue(struct file *file, struct wait_queue_head *head,
			    struct poll_table_struct *pt)
{
	container_of(pt, struct aio_queue_count, pt)->nr++;
}

/**
 * aio_poll_is_multiple - whether a poll may have to wait on several queues
 * @file: the file
 * @events: poll events
 *
 * Context: The submitting task. Sleeps as ->poll() does.
 */
bool aio_poll_is_multiple(struct file *file, u32 events)
{
	struct aio_queue_count count = { };

	init_poll_funcptr(&count.pt, aio_count_queue);
	count.pt._key = (__force __poll_t)events;
	vfs_poll(file, &count.pt);
	return count.nr > 1;
}
