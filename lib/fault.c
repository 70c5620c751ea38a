/* SPDX-License-Identifier: MIT */
/* Fault points: what BATON_FAULT asks for, and whether it is due. */
#include "lib/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/log.h"

#define VARIABLE "BATON_FAULT"

static const struct {
	const char *name, *side;
} points[FAULT_NR] = {
#define FAULT_ROW(name, side) [FAULT_##name] = {#name, #side},
	FAULT_POINTS(FAULT_ROW)
#undef FAULT_ROW
};

static struct {
	bool set;
	enum action { ACTION_FAIL, ACTION_KILL, ACTION_BOTH } action;
	enum fault_point point;
	int due;    /* fires when reached for this time, counted from 1 */
	int *times; /* shared by all processes: how often the point was reached */
} fault;

const char *fault_name(int point, const char **side)
{
	*side = points[point].side;
	return points[point].name;
}

int fault_list_wanted(void)
{
	const char *text = getenv(VARIABLE);

	return text && !strcmp(text, "list");
}

static const char *const actions[] = {
	[ACTION_FAIL] = "fail", [ACTION_KILL] = "kill", [ACTION_BOTH] = "both"};
#define NR_ACTIONS ((int)(sizeof(actions) / sizeof(actions[0])))

static int find_action(const char *text, size_t len)
{
	for (int i = 0; i < NR_ACTIONS; i++)
		if (strlen(actions[i]) == len && !strncmp(actions[i], text, len))
			return i;
	return -1;
}

static int find(const char *name, size_t len)
{
	for (int i = 0; i < FAULT_NR; i++)
		if (strlen(points[i].name) == len && !strncmp(points[i].name, name, len))
			return i;
	return -1;
}

/* "ACTION:NAME" or "ACTION:NAME:N". */
static int parse(const char *text)
{
	const char *name = strchr(text, ':'), *end;
	int action = name ? find_action(text, (size_t)(name - text)) : -1, point;

	if (action < 0)
		return -EINVAL;
	name++;
	end = strchrnul(name, ':');
	point = find(name, (size_t)(end - name));
	fault.due = *end ? atoi(end + 1) : 1;
	if (point < 0 || fault.due < 1)
		return -EINVAL;
	fault.action = (enum action)action;
	fault.point = (enum fault_point)point;
	return 0;
}

int fault_set_up(int *shared)
{
	const char *text = getenv(VARIABLE);

	if (!text || !*text || fault_list_wanted())
		return 0;
	if (parse(text))
		return log_fail(EINVAL,
				VARIABLE
				"=%s: wanted is kill:NAME, both:NAME or fail:NAME, with :N; "
				"see: " VARIABLE "=list baton version",
				text);
	if (!shared) {
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (shared == MAP_FAILED)
			return -errno;
	}
	fault.times = shared;
	fault.set = true;
	return 0;
}

int fault_reached(enum fault_point point)
{
	if (!fault.set || point != fault.point ||
	    __atomic_add_fetch(fault.times, 1, __ATOMIC_SEQ_CST) != fault.due)
		return 0;
	log_warn("fault point %s: %s", points[point].name, actions[fault.action]);
	if (fault.action == ACTION_KILL)
		kill(getpid(), SIGKILL);
	if (fault.action == ACTION_BOTH)
		kill(0, SIGKILL);
	return log_fail(EIO, "fault point %s", points[point].name);
}
