/* SPDX-License-Identifier: MIT */
/* baton protect: the processes that matter, which evacuate moves. */
#include <stdio.h>
#include <string.h>

#include "board/protect.h"
#include "cmd/options.h"
#include "lib/log.h"
#include "lib/text.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_PIDFILE) | OPTION_BIT(OPTION_UNIT) |          \
	 OPTION_BIT(OPTION_COMMAND) | OPTION_BIT(OPTION_PRIORITY) | OPTION_BIT(OPTION_AFTER))

static int show(void *data, const struct protect *p)
{
	pid_t pid;
	int err = protect_find(p, PROTECT_ASK_MS, &pid);

	(void)data;
	printf("%-16s priority %d%s%s, ", p->name, p->priority, p->after[0] ? ", after " : "",
	       p->after);
	if (!err)
		printf("pid %d\n", pid);
	else
		printf("%s: %s\n", err == -ESRCH ? "does not run here" : "cannot be found",
		       log_reason());
	log_reason_clear();
	return 0;
}

static bool take(char *out, const char *text)
{
	return !text || (!strchr(text, '\n') && text_copy(out, PROTECT_HOW_BYTES, text));
}

static int add(const char *argv0, const struct options *o, const char *name)
{
	struct protect p = {.priority = o->priority};
	pid_t pid;

	if (!o->pidfile + !o->unit + !o->command != 2)
		return cmd_usage(argv0, "one of --pidfile, --unit and --command is wanted");
	if (!take(p.pidfile, o->pidfile) || !take(p.unit, o->unit) ||
	    !take(p.command, o->command) || (o->after && !protect_name_is_good(o->after)))
		return cmd_usage(argv0, "what was given is too long, or no name");
	text_copy(p.name, sizeof(p.name), name);
	text_copy(p.after, sizeof(p.after), o->after ? o->after : "");
	if (protect_find(&p, PROTECT_ASK_MS, &pid) || !protect_exe(pid, p.exe)) {
		log_warn("%s is not found here (%s): add it again when it does, and no other "
			 "program will ever be taken for it",
			 name, log_reason());
		p.exe[0] = '\0';
	}
	log_reason_clear();
	if (protect_add(o->keys, &p))
		return cmd_fail(OUTCOME_FAILED, "it cannot be added");
	return OUTCOME_DONE;
}

int cmd_protect(int argc, char **argv)
{
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);
	const char *what, *name;

	if (outcome >= 0)
		return outcome;
	what = options.nr_args ? options.args[0] : "";
	name = options.nr_args == 2 ? options.args[1] : "";
	if (!strcmp(what, "list") && options.nr_args == 1) {
		if (protect_each(options.keys, show, NULL))
			return cmd_fail(OUTCOME_FAILED, "the list cannot be read");
		return fflush(stdout) ? OUTCOME_FAILED : OUTCOME_DONE;
	}
	if (options.nr_args != 2 || (strcmp(what, "add") != 0 && strcmp(what, "remove") != 0))
		return cmd_usage(argv[0], "add NAME, remove NAME or list is wanted");
	if (!protect_name_is_good(name))
		return cmd_usage(argv[0], "%s: a name of letters, digits and ._- is wanted", name);
	if (what[0] == 'a')
		return add(argv[0], &options, name);
	return protect_remove(options.keys, name) ? cmd_fail(OUTCOME_FAILED, "it cannot be removed")
						  : OUTCOME_DONE;
}
