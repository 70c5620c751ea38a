/* SPDX-License-Identifier: MIT */
/* baton keygen: this device's key and certificate. */
#include "cmd/cmd.h"

#include "cmd/options.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "transport/keys.h"
#include "transport/tls.h"
#include <errno.h>
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
	uint8_t fingerprint[KEYS_FINGERPRINT_BYTES];
	char hex[KEYS_FINGERPRINT_TEXT], host[KEYS_NAME_MAX];
	struct options options;
	int outcome, err;

	outcome = options_parse(argc, argv, OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_NAME),
				&options);
	if (outcome >= 0)
		return outcome;
	if (options.nr_args)
		return cmd_usage(argv[0], "'%s' is too much: keygen takes options only",
				 options.args[0]);
	if (!options.name)
		options.name = default_name(host, sizeof(host));

	err = arena_init();
	if (!err)
		err = tls_init();
	if (err)
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	err = keys_create(options.keys, options.name, fingerprint);
	if (err)
		return cmd_fail(err == -EINVAL ? OUTCOME_USAGE : OUTCOME_FAILED,
				"the key cannot be made");
	keys_fingerprint_text(fingerprint, hex);
	printf("certificate %s/cert.pem\nname        %s\nSHA-256     %s\n", options.keys,
	       options.name, hex);
	return OUTCOME_DONE;
}
