/* SPDX-License-Identifier: MIT */
/* A source process, a server, a target process: see pager_world.h. */
#include "tests/unit/pager_world.h"

#include "arch/arch.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define TIME_LIMIT_MS 90000

/* Long stretches of one kind, then changes at each page. */
enum world_kind world_kind(unsigned int index)
{
	if (index < 1024)
		return WORLD_PATTERN;
	if (index < 1536)
		return index % 128 < 64 ? WORLD_ABSENT : WORLD_ZEROS;
	if (index < 4096)
		return (index * 2654435761u >> 13) % 4 ? WORLD_PATTERN
						       : (index * 2654435761u >> 17) % 2 + 1;
	return WORLD_PATTERN;
}

void world_page_fill(uint64_t *page, unsigned int index, uint64_t page_bytes)
{
	uint64_t value = (index + 1) * 0x9e3779b97f4a7c15ull;

	for (uint64_t i = 0; i < page_bytes / 8; i++)
		page[i] = world_kind(index) == WORLD_PATTERN ? value + i * 0x100000001b3ull : 0;
}

static void *area_map(struct world *w)
{
	void *area = mmap(w->window, WORLD_AREA_PAGES * w->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	madvise(area, WORLD_AREA_PAGES * w->page, MADV_NOHUGEPAGE);
	return area;
}

static void source_main(struct world *w)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (area_map(w) == MAP_FAILED)
		_exit(1);
	for (unsigned int i = 0; i < WORLD_AREA_PAGES; i++) {
		if (world_kind(i) != WORLD_ABSENT)
			world_page_fill((uint64_t *)(w->window + i * w->page), i, w->page);
	}
	/* Content behind PROT_NONE has to be read, too. */
	mprotect(w->window + 100 * w->page, 20 * w->page, PROT_NONE);
	raise(SIGSTOP);
	_exit(0);
}

void world_begin(struct world *w)
{
	int status;

	*w = (struct world){.page = (uint64_t)1 << arch_page_shift(), .uffd = -1};
	assert_int_equal(arena_init(), 0);
	assert_int_equal(pager_init(&w->pager), 0);
	assert_int_equal(lane_init(&w->faults), 0);
	assert_int_equal(lane_init(&w->bulk), 0);
	w->reserved = mmap(NULL, (WORLD_PAGES + 1) * w->page, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(w->reserved != MAP_FAILED);
	/* With pages that are larger than the kernel's. */
	w->window = w->reserved + (w->page - (uintptr_t)w->reserved % w->page) % w->page;
	w->source = fork();
	if (w->source == 0)
		source_main(w);
	assert_int_equal(waitpid(w->source, &status, WUNTRACED), w->source);
	assert_true(WIFSTOPPED(status));
}

/* ---- the target ---- */

static void fd_send(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, 0) != 1)
		_exit(11);
}

static int fd_receive(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	int fd = -1;

	if (recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static int uffd_make(struct world *w)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
					     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	struct uffdio_register reg = {.range = {(uintptr_t)w->window, WORLD_AREA_PAGES * w->page},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		_exit(12);
	return fd;
}

static void target_main(struct world *w, int sock, int go, int (*play)(struct world *w))
{
	char byte;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (area_map(w) == MAP_FAILED)
		_exit(10);
	fd = uffd_make(w);
	fd_send(sock, fd);
	close(fd);
	if (read(go, &byte, 1) != 1)
		_exit(13);
	_exit(play(w));
}

void world_target(struct world *w, int (*play)(struct world *w))
{
	int pair[2], go[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(pipe(go), 0);
	w->target = fork();
	if (w->target == 0)
		target_main(w, pair[1], go[0], play);
	w->uffd = fd_receive(pair[0]);
	assert_true(w->uffd >= 0);
	close(pair[0]);
	close(pair[1]);
	close(go[0]);
	w->target_go = go[1];
	assert_int_equal(pager_attach(w->pager, w->target, w->uffd), 0);
	assert_int_equal(pager_add(w->pager, (uintptr_t)w->window,
				   (uintptr_t)w->window + WORLD_AREA_PAGES * w->page),
			 0);
}

/* ---- the server ---- */

static void pair_make(bool tcp, int pair[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener, one = 1;

	if (!tcp) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		return;
	}
	listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&addr, &len);
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(pair[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
	pair[1] = accept(listener, NULL, NULL);
	close(listener);
	setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(pair[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void server_main(struct world *w, int faults_fd, int bulk_fd)
{
	struct lane faults, bulk;
	struct serve *serve;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (arena_init() || lane_init(&faults) || lane_init(&bulk) || serve_init(&serve) ||
	    serve_attach(serve, w->source))
		_exit(20);
	faults.fd = faults_fd;
	bulk.fd = bulk_fd;
	snprintf(faults.peer, sizeof(faults.peer), "the target");
	snprintf(bulk.peer, sizeof(bulk.peer), "the target");
	err = serve_run(serve, &faults, &bulk, w->rate_mib_s, NULL, NULL);
	if (err == 1) /* a frame that is none of its: the tests send GO to be told */
		err = faults.rx.type == FRAME_GO ? 0 : 1;
	_exit(-err);
}

void world_connect(struct world *w, bool tcp)
{
	int faults[2], bulk[2];

	pair_make(tcp, faults);
	pair_make(tcp, bulk);
	w->server = fork();
	if (w->server == 0) {
		close(faults[0]);
		close(bulk[0]);
		/* A copy that stays open would keep the memory watched when the pager is done. */
		if (w->uffd >= 0)
			close(w->uffd);
		server_main(w, faults[1], bulk[1]);
	}
	close(faults[1]);
	close(bulk[1]);
	w->faults.fd = faults[0];
	w->bulk.fd = bulk[0];
	snprintf(w->faults.peer, sizeof(w->faults.peer), "the source");
	snprintf(w->bulk.peer, sizeof(w->bulk.peer), "the source");
}

void world_disconnect(struct world *w)
{
	if (w->server > 0) {
		kill(w->server, SIGKILL);
		waitpid(w->server, NULL, 0);
	}
	w->server = 0;
	lane_close(&w->faults);
	lane_close(&w->bulk);
}

/* ---- running ---- */

static int time_limit(void *data, const struct pager_counters *counters)
{
	struct world *w = data;

	(void)counters;
	return clock_now_ms() > w->deadline_ms ? -ETIME : 0;
}

int world_run(struct world *w, enum pager_mode mode)
{
	w->deadline_ms = clock_now_ms() + TIME_LIMIT_MS;
	log_reason_clear();
	if (w->target_go >= 0 && w->target > 0) {
		assert_int_equal(write(w->target_go, "", 1), 1);
		close(w->target_go);
		w->target_go = -1;
	}
	return pager_run(w->pager, &w->faults, &w->bulk, mode, time_limit, w);
}

void world_check_target(struct world *w)
{
	int status;

	assert_int_equal(waitpid(w->target, &status, 0), w->target);
	w->target = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("the target ended with status %#x", status);
}

void world_end(struct world *w)
{
	struct pager_counters counters;

	pager_counters(w->pager, &counters);
	print_message(
		"pages %llu zero %llu faults %llu p50 %u us p99 %u us bytes %llu left %llu\n",
		(unsigned long long)counters.pages_sent, (unsigned long long)counters.pages_zero,
		(unsigned long long)counters.faults, counters.fault_p50_us, counters.fault_p99_us,
		(unsigned long long)counters.bytes_wire, (unsigned long long)counters.todo_bytes);
	pager_reset(w->pager);
	world_disconnect(w);
	if (w->target > 0) {
		kill(w->target, SIGKILL);
		waitpid(w->target, NULL, 0);
	}
	kill(w->source, SIGKILL);
	waitpid(w->source, NULL, 0);
	munmap(w->reserved, (WORLD_PAGES + 1) * w->page);
}
