/* SPDX-License-Identifier: MIT */
/* baton keygen: this device's key and certificate. */
#include "cmd/cmd.h"

#include "lib/arena.h"
#include "lib/log.h"
#include "transport/keys.h"
#include "transport/tls.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The device's name, without its domain, unless the user gave one. */
static const char *default_name(char *buf, size_t cap)
{
	if (gethostname(buf, cap) < 0)
		return "";
	buf[cap - 1] = '\0';
	buf[strcspn(buf, ".")] = '\0';
	return buf;
}

int cmd_keygen(int argc, char **argv)
{
	static const struct option options[] = {
		{"keys", required_argument, NULL, 'k'},
		{"name", required_argument, NULL, 'n'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *dir = CMD_KEYS_DEFAULT, *name = NULL;
	uint8_t fingerprint[KEYS_FINGERPRINT_BYTES];
	char hex[KEYS_FINGERPRINT_TEXT], host[KEYS_NAME_MAX];
	int option, err;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'k':
			dir = optarg;
			break;
		case 'n':
			name = optarg;
			break;
		case 'v':
			log_level_set(LOG_DEBUG);
			break;
		case 'h':
			return cmd_help(argv[0]);
		default:
			return cmd_usage(argv[0], "what was given cannot be understood");
		}
	}
	if (optind < argc)
		return cmd_usage(argv[0], "'%s' is too much: keygen takes options only",
				 argv[optind]);
	if (!name)
		name = default_name(host, sizeof(host));

	err = arena_init();
	if (!err)
		err = tls_init();
	if (err)
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	err = keys_create(dir, name, fingerprint);
	if (err)
		return cmd_fail(err == -EINVAL ? OUTCOME_USAGE : OUTCOME_FAILED,
				"the key cannot be made");
	keys_fingerprint_text(fingerprint, hex);
	printf("certificate %s/cert.pem\nname        %s\nSHA-256     %s\n", dir, name, hex);
	return OUTCOME_DONE;
}
