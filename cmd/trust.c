/* SPDX-License-Identifier: MIT */
/* baton trust: allows a device to send to and to receive from this one. */
#include "cmd/cmd.h"

#include "cmd/options.h"
#include "lib/arena.h"
#include "transport/keys.h"
#include "transport/tls.h"
#include <stdio.h>

int cmd_trust(int argc, char **argv)
{
	uint8_t fingerprint[KEYS_FINGERPRINT_BYTES];
	char hex[KEYS_FINGERPRINT_TEXT], name[KEYS_NAME_MAX];
	struct options options;
	int err = options_parse(argc, argv, OPTION_BIT(OPTION_KEYS), &options);

	if (err >= 0)
		return err;
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "give one certificate, the other device's cert.pem");

	err = arena_init();
	if (!err)
		err = tls_init();
	if (err)
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	if (keys_trust(options.keys, options.args[0], name, fingerprint))
		return cmd_fail(OUTCOME_FAILED, "the certificate cannot be trusted");
	keys_fingerprint_text(fingerprint, hex);
	printf("trusted     %s/peers/%s.pem\nSHA-256     %s\n", options.keys, name, hex);
	return OUTCOME_DONE;
}
