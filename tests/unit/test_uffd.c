/* SPDX-License-Identifier: MIT */
/*
 * A page that moves away while it is being filled is never taken for filled. The kernel's own race: many
 * tries, each with the two at another distance.
 *
 * needs: engine/paging/uffd.c lib/log.c lib/text.c
 * libs: -lpthread
 */
#include "tests/unit/unit.h"

#include "engine/paging/uffd.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TRY_MS 3000

static struct {
	size_t page;
	char *at, *to; /* the page, and where it goes */
	int uffd;
	atomic_uint poised, turn, done; /* two of a try: the move, the discard */
	unsigned int wait; /* before the fill; found so that both come first about as often */
	atomic_bool over;
} t;

static void spin(unsigned int n)
{
	for (volatile unsigned int i = 0; i < n; i++)
		;
}

/* All calls that change memory, so that none of them takes the place that another leaves for a moment. */
static void *change(void *data)
{
	UNUSED(data);
	for (unsigned int n = 1;; n++) {
		char *from = t.at;

		atomic_store(&t.poised, n);
		while (atomic_load(&t.turn) != n)
			if (atomic_load(&t.over))
				return NULL;
		if (n % 2 == 0 && madvise(t.at, t.page, MADV_DONTNEED))
			return (void *)1;
		if (n % 2) {
			if (mremap(from, t.page, t.page, MREMAP_MAYMOVE | MREMAP_FIXED, t.to) !=
				    t.to ||
			    mmap(from, t.page, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != from)
				return (void *)2;
			t.at = t.to;
			t.to = from;
		}
		atomic_store(&t.done, n);
	}
}

/* Reads what it announces until it has left its call. */
static void hear(unsigned int n)
{
	struct uffd_msg msg;

	while (atomic_load(&t.done) != n)
		assert_true(uffd_read(t.uffd, &msg) >= 0);
}

static bool is_there(void *at)
{
	unsigned char there = 0;

	assert_int_equal(mincore(at, t.page, &there), 0);
	return there & 1;
}

/* True: it was filled before it moved, and came along. Else the fill has to wait for the event. */
static bool try_once(unsigned int n, const void *data)
{
	const uint64_t from = (uintptr_t)t.at;
	uint64_t done;
	bool there;
	int err;

	/* It is on a CPU, too. */
	while (atomic_load(&t.poised) != 2 * n - 1)
		sched_yield();
	atomic_store(&t.turn, 2 * n - 1);
	spin(t.wait + n % 64);
	err = uffd_copy(t.uffd, from, data, t.page, t.page, &done);
	hear(2 * n - 1);
	there = is_there(t.at);
	t.wait = there ? t.wait + 16 : t.wait - (t.wait < 16 ? t.wait : 16);
	if (err != -EAGAIN && err != 0)
		fail_msg("try %u: %d", n, err);
	if (err == 0 && !there)
		fail_msg("try %u: the page counts as filled, and moved away empty", n);
	atomic_store(&t.turn, 2 * n);
	hear(2 * n);
	return there;
}

static void test_moves_while_filled(void **state)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
					     UFFD_FEATURE_EVENT_UNMAP};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	unsigned int n = 0, nr_filled = 0;
	struct timespec begun, now;
	pthread_t thread;
	void *result;
	char *area, *data;

	UNUSED(state);
	t.page = (size_t)sysconf(_SC_PAGESIZE);
	area = mmap(NULL, 16 * t.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	data = mmap(NULL, t.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(area != MAP_FAILED && data != MAP_FAILED);
	memset(data, 7, t.page);
	t.at = area + 4 * t.page;
	t.to = area + 8 * t.page;
	assert_ptr_equal(mmap(t.at, t.page, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 t.at);
	t.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (t.uffd < 0 && errno == ENOSYS)
		skip(); /* an emulator of user programs */
	assert_true(t.uffd >= 0);
	assert_int_equal(ioctl(t.uffd, UFFDIO_API, &api), 0);
	reg.range.start = (uintptr_t)t.at;
	reg.range.len = t.page;
	assert_int_equal(ioctl(t.uffd, UFFDIO_REGISTER, &reg), 0);
	assert_int_equal(pthread_create(&thread, NULL, change, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		nr_filled += try_once(++n, data);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 <
		 TRY_MS);
	atomic_store(&t.over, true);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	print_message("%u tries, %u filled before the move\n", n, nr_filled);
	close(t.uffd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_while_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
