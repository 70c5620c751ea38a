/* SPDX-License-Identifier: MIT */
/* baton version: what this binary is, what memory it takes, what is built in. */
#include "cmd/cmd.h"

#include "arch/arch.h"
#include "cmd/options.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "version.h"
#include <stdio.h>

static const struct {
	const char *name;
	bool built_in;
} commands[] = {
	{"check", IS_ENABLED(CONFIG_CMD_CHECK)},     {"keygen", IS_ENABLED(CONFIG_CMD_KEYGEN)},
	{"trust", IS_ENABLED(CONFIG_CMD_TRUST)},     {"receive", IS_ENABLED(CONFIG_CMD_RECEIVE)},
	{"send", IS_ENABLED(CONFIG_CMD_SEND)},       {"dump", IS_ENABLED(CONFIG_CMD_DUMP)},
	{"restore", IS_ENABLED(CONFIG_CMD_RESTORE)}, {"status", IS_ENABLED(CONFIG_CMD_STATUS)},
	{"resume", IS_ENABLED(CONFIG_CMD_RESUME)},   {"abort", IS_ENABLED(CONFIG_CMD_ABORT)},
	{"inspect", IS_ENABLED(CONFIG_CMD_INSPECT)}, {"core", IS_ENABLED(CONFIG_CMD_CORE)},
	{"console", IS_ENABLED(CONFIG_CMD_CONSOLE)}, {"evacuate", IS_ENABLED(CONFIG_CMD_EVACUATE)},
	{"version", IS_ENABLED(CONFIG_CMD_VERSION)},
};

static const struct {
	const char *name;
	int value;
} limits[] = {
	{"run_kib", CONFIG_RUN_KIB},
	{"tls_record_kib", CONFIG_TLS_RECORD_KIB},
	{"max_threads", CONFIG_MAX_THREADS},
	{"max_fds", CONFIG_MAX_FDS},
	{"max_connections", CONFIG_MAX_CONNECTIONS},
	{"max_spaces", CONFIG_MAX_SPACES},
	{"todo_nodes", CONFIG_TODO_NODES},
	{"handshake_timeout_ms", CONFIG_HANDSHAKE_TIMEOUT_MS},
	{"log_level", CONFIG_LOG_LEVEL},
};

static const char *const ciphers = IS_ENABLED(CONFIG_CIPHER_LIBGCRYPT) ? "libgcrypt" : "mbedtls";

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void print_text(void)
{
	struct arena_usage usage;

	printf("baton %s\narchitecture %s\npage size    %u bytes\ntls          1.3, mbedtls; "
	       "ciphers of %s\n",
	       BATON_VERSION, arch_name(), 1U << arch_page_shift(), ciphers);
	printf("memory       %d KiB:\n", CONFIG_MEMORY_BUDGET_KIB);
	for (int i = 0; i < ARENA_NR; i++) {
		arena_usage((enum arena_region)i, &usage);
		printf("  %-10s %4zu KiB\n", usage.name, usage.size_bytes / 1024);
	}
	printf("limits\n");
	for (size_t i = 0; i < COUNT(limits); i++)
		printf("  %-21s %d\n", limits[i].name, limits[i].value);
	printf("commands    ");
	for (size_t i = 0; i < COUNT(commands); i++)
		if (commands[i].built_in)
			printf(" %s", commands[i].name);
	printf("\n");
}

static void print_json(void)
{
	struct arena_usage usage;
	const char *comma = "";

	printf("{\"version\": \"%s\", \"architecture\": \"%s\", \"page_size\": %u, \"tls\": "
	       "\"mbedtls\", \"ciphers\": \"%s\", "
	       "\"memory_budget_kib\": %d, \"regions_kib\": {",
	       BATON_VERSION, arch_name(), 1U << arch_page_shift(), ciphers,
	       CONFIG_MEMORY_BUDGET_KIB);
	for (int i = 0; i < ARENA_NR; i++, comma = ", ") {
		arena_usage((enum arena_region)i, &usage);
		printf("%s\"%s\": %zu", comma, usage.name, usage.size_bytes / 1024);
	}
	printf("}, \"limits\": {");
	comma = "";
	for (size_t i = 0; i < COUNT(limits); i++, comma = ", ")
		printf("%s\"%s\": %d", comma, limits[i].name, limits[i].value);
	printf("}, \"commands\": [");
	comma = "";
	for (size_t i = 0; i < COUNT(commands); i++) {
		if (!commands[i].built_in)
			continue;
		printf("%s\"%s\"", comma, commands[i].name);
		comma = ", ";
	}
	printf("]}\n");
}

/* For the tests that go through all of them. */
static int print_fault_points(void)
{
	const char *name, *side;

	for (int i = 0; i < FAULT_NR; i++) {
		name = fault_name(i, &side);
		printf("%s %s\n", name, side);
	}
	return OUTCOME_DONE;
}

int cmd_version(int argc, char **argv)
{
	struct options options;
	int outcome = options_parse(argc, argv, OPTION_BIT(OPTION_JSON), &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args > 0)
		return cmd_usage(argv[0], "'%s' is too much: version takes options only",
				 options.args[0]);
	if (IS_ENABLED(CONFIG_FAULT_POINTS) && fault_list_wanted())
		return print_fault_points();
	if (arena_init())
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	if (options_json(options.json))
		print_json();
	else
		print_text();
	return OUTCOME_DONE;
}
