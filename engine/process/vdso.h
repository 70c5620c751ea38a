/* SPDX-License-Identifier: MIT */
/*
 * The vdso of another kernel: the image that a program keeps pointers into, and how its functions are
 * redirected. docs/design.md, "Another kernel", has the whole of it.
 */
#ifndef BATON_VDSO_H
#define BATON_VDSO_H

#include <stddef.h>
#include <stdint.h>

/* So much of an image is read: two to four pages, headers and code, with nothing behind. */
#define VDSO_IMAGE_MAX 16384u
/* Longer ones are no vdso. A multiple of every page size. */
#define VDSO_MAX_BYTES (256u * 1024)

struct vdso_range {
	uint64_t start, len;
};

struct vdso_place {
	struct vdso_range own;   /* the running kernel's [vdso] */
	struct vdso_range known; /* the image that AT_SYSINFO_EHDR names: the same one, or one that
				  * came along from the kernel the program was started on */
};

/*
 * Where the vdso of the process at proc_fd lies. -ENOENT: it has none; -EFBIG; another -errno of
 * /proc.
 */
int vdso_find(int proc_fd, struct vdso_place *place);

struct vdso_function {
	const char *name;
	uint64_t offset, size; /* in the image, and inside of it */
};
typedef int vdso_function_fn(void *data, const struct vdso_function *f);

/*
 * Calls `fn` for each function that an image exports, until it returns non-zero, which is returned.
 * The image may be anything: -ENOEXEC when it makes no sense.
 */
int vdso_each_function(const uint8_t *image, size_t len, vdso_function_fn *fn, void *data);

/*
 * Makes each function of `image`, which lies at `at` in the program, go to that of the same name in
 * `next`, which lies at `next_at`; where that has none, to a system call. Functions that need no data
 * of the kernel's stay. -ENOEXEC with log_fail: an image that makes no sense, or a function that is not
 * known or has no room. May be repeated, also with an image that was redirected before.
 */
int vdso_redirect(uint8_t *image, size_t len, uint64_t at, const uint8_t *next, size_t next_len,
		  uint64_t next_at);

#endif
