/* SPDX-License-Identifier: MIT */
/* baton trust: allows a device to send to and to receive from this one. */
#include "cmd/cmd.h"

#include "lib/arena.h"
#include "transport/keys.h"
#include "transport/tls.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

int cmd_trust(int argc, char **argv)
{
	static const struct option options[] = {
		{"keys", required_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	uint8_t fingerprint[KEYS_FINGERPRINT_BYTES];
	char hex[KEYS_FINGERPRINT_TEXT], name[KEYS_NAME_MAX];
	const char *dir = CMD_KEYS_DEFAULT;
	int option, err;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'k':
			dir = optarg;
			break;
		case 'h':
			return cmd_help(argv[0]);
		default:
			return cmd_usage(argv[0], "what was given cannot be understood");
		}
	}
	if (argc - optind != 1)
		return cmd_usage(argv[0], "give one certificate, the other device's cert.pem");

	err = arena_init();
	if (!err)
		err = tls_init();
	if (err)
		return cmd_fail(OUTCOME_SYSTEM, "the memory budget is too small");
	if (keys_trust(dir, argv[optind], name, fingerprint))
		return cmd_fail(OUTCOME_FAILED, "the certificate cannot be trusted");
	keys_fingerprint_text(fingerprint, hex);
	printf("trusted     %s/peers/%s.pem\nSHA-256     %s\n", dir, name, hex);
	return OUTCOME_DONE;
}
