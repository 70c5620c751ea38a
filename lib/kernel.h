/* SPDX-License-Identifier: MIT */
/*
 * Kernel interfaces that are younger than the oldest headers baton is built with (Linux 6.1) or
 * that libc does not name. Everything is asked of the kernel at run time: a definition here says
 * nothing about the kernel that is running. Source of each: include/uapi of the version named.
 */
#ifndef BATON_KERNEL_H
#define BATON_KERNEL_H

#include <linux/types.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* A system call that failed returns at least the negative of it (MAX_ERRNO, linux/err.h). */
#define KERNEL_MAX_ERRNO 4095 /* not a page */

/* ---- system call numbers (the same on all architectures since 424) ---- */

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef LANDLOCK_CREATE_RULESET_VERSION
#define LANDLOCK_CREATE_RULESET_VERSION 1U
#endif

/* ---- userfaultfd, linux/userfaultfd.h ---- */

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW /* 6.1: open("/dev/userfaultfd") */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED /* 6.4 */
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON /* 6.6 */
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC /* 6.7 */
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE /* 6.8 */
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef _UFFDIO_MOVE /* 6.8 */
#define _UFFDIO_MOVE 0x05
#endif
#ifndef _UFFDIO_POISON /* 6.6 */
#define _UFFDIO_POISON 0x08
#endif

/* ---- PAGEMAP_SCAN, linux/fs.h, 6.7 ---- */

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)
#define PAGE_IS_SOFT_DIRTY (1 << 7)

struct page_region {
	__u64 start, end, categories;
};

#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)

struct pm_scan_arg {
	__u64 size, flags;
	__u64 start, end, walk_end; /* walk_end: where the kernel stopped */
	__u64 vec, vec_len;         /* array of struct page_region */
	__u64 max_pages;
	__u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

/* ---- prctl, linux/prctl.h ---- */

#ifndef PR_GET_AUXV /* 6.4 */
#define PR_GET_AUXV 0x41555856
#endif
#ifndef PR_SET_MDWE /* 6.3 */
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE /* 6.4 */
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_SPEC_L1D_FLUSH /* 5.15 */
#define PR_SPEC_L1D_FLUSH 2
#endif
#ifndef PR_SCHED_CORE /* 5.14 */
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_GET 0
#endif
#ifndef PR_TIMER_CREATE_RESTORE_IDS /* 6.15 */
#define PR_TIMER_CREATE_RESTORE_IDS 77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON 1
#define PR_TIMER_CREATE_RESTORE_IDS_GET 2
#endif

/* ---- membarrier, linux/membarrier.h: an enum there ---- */

#define BATON_MEMBARRIER_PRIVATE_EXPEDITED (1 << 3)
#define BATON_MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE (1 << 5)
#define BATON_MEMBARRIER_PRIVATE_EXPEDITED_RSEQ (1 << 7)
#define BATON_MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* 6.3 */

/* ---- memory ---- */

#ifndef MCL_ONFAULT /* 4.4 */
#define MCL_ONFAULT 4
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef PAGE_IS_GUARD /* 6.15, linux/fs.h */
#define PAGE_IS_GUARD (1 << 8)
#endif

#ifndef MFD_NOEXEC_SEAL /* 6.3, linux/memfd.h */
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC 0x0010U
#endif
#ifndef F_SEAL_EXEC /* 6.3, linux/fcntl.h */
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MADV_COLLAPSE /* 6.1 */
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL /* 6.13 */
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* ---- sockets, asm-generic/socket.h ---- */

#ifndef SO_BUF_LOCK /* 5.15 */
#define SO_BUF_LOCK 72
#endif
#ifndef SO_TXREHASH /* 5.19 */
#define SO_TXREHASH 74
#endif
#ifndef SO_RCVMARK /* 6.0 */
#define SO_RCVMARK 75
#endif
#ifndef SO_PASSPIDFD /* 6.5 */
#define SO_PASSPIDFD 76
#endif
#ifndef SO_RCVPRIORITY /* 6.14 */
#define SO_RCVPRIORITY 82
#endif
#ifndef SO_PASSRIGHTS /* 6.16 */
#define SO_PASSRIGHTS 83
#endif

/* ---- pidfd, linux/pidfd.h ---- */

#ifndef PIDFD_THREAD /* 6.9 */
#define PIDFD_THREAD O_EXCL
#endif

/* ---- kcmp(2), linux/kcmp.h: an enum there, so it cannot be asked for by #ifdef ---- */

#define BATON_KCMP_FILE 0
#define BATON_KCMP_VM 1
#define BATON_KCMP_FILES 2
#define BATON_KCMP_FS 3
#define BATON_KCMP_SYSVSEM 6

#endif
