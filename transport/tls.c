/* SPDX-License-Identifier: MIT */
/* The TLS of this device: memory, randomness, identity, whom it trusts, which cipher it likes. */
#include "transport/tls.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/log.h"
#include "transport/keys.h"
#include "transport/tls_context.h"
#include <errno.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/memory_buffer_alloc.h>
#include <mbedtls/platform.h>
#include <mbedtls/psa_util.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <psa/crypto.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* The ciphers are timed with so much. */
#define TIMED_BYTES 16384
/* So long, about, a short record is worked on by either side; and the shortest that pays. */
#define SHORT_RECORD_NS 10000
#define SHORTEST_RECORD_BYTES 2048

static bool ready; /* tls_init has been done */
static struct tls_identity tls;
static mbedtls_ssl_config confs[2]; /* [0] dialing, [1] accepting */

struct tls_identity *tls_identity(void)
{
	return &tls;
}

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
				  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
static const uint16_t signatures[] = {MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256,
				      MBEDTLS_TLS1_3_SIG_NONE};

/*
 * The side that dials lists the ciphers in its order, and the other takes the first that it has: there
 * is always one, since every device has ChaCha20-Poly1305.
 */
static const int aes_first[] = {MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
				MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, 0};
static const int chacha_first[] = {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
				   MBEDTLS_TLS1_3_AES_128_GCM_SHA256, 0};
static const int chacha_only[] = {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, 0};

/* mbedtls calls it by this name for all its randomness (MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG). */
psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context,
					     uint8_t *out, size_t size, size_t *filled)
{
	(void)context;
	*filled = 0;
	while (*filled < size) {
		ssize_t got = getrandom(out + *filled, size - *filled, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return PSA_ERROR_INSUFFICIENT_ENTROPY;
		*filled += (size_t)got;
	}
	return PSA_SUCCESS;
}

static void ask_usage(size_t *used_bytes, size_t *peak_bytes)
{
	size_t blocks;

	mbedtls_memory_buffer_alloc_cur_get(used_bytes, &blocks);
	mbedtls_memory_buffer_alloc_max_get(peak_bytes, &blocks);
}

int tls_init(void)
{
	struct arena_usage usage;
	void *region;

	if (ready)
		return 0;
	arena_usage(ARENA_TLS, &usage);
	region = arena_alloc(ARENA_TLS, usage.size_bytes, 16);
	/* mbedtls says nothing when its buffer is too small and then has no memory at all. */
	if (!region || usage.size_bytes < 16384)
		return log_fail(ENOMEM,
				"the memory budget leaves %zu bytes for TLS, which is too little; "
				"raise CONFIG_MEMORY_BUDGET_KIB",
				usage.size_bytes);
	mbedtls_memory_buffer_alloc_init(region, usage.size_bytes);
	arena_usage_ask(ARENA_TLS, ask_usage);
	if (psa_crypto_init() != PSA_SUCCESS)
		return log_fail(ENOMEM, "the cryptographic library does not start");
	tls.keys_fd = -1;
	ready = true;
	return 0;
}

/*
 * Time of either cipher over 16 KiB, the best of three. What is faster depends on the processor's
 * AES instructions and on how the library uses them, so it is measured; it takes below 1 ms.
 */
static int64_t time_cipher_ns(bool aes, uint8_t *buf, size_t len)
{
	static const uint8_t key[32], nonce[12];
	mbedtls_chachapoly_context chacha;
	mbedtls_gcm_context gcm;
	int64_t best = INT64_MAX;
	uint8_t tag[16];
	int err;

	/* There is no GCM to link with otherwise. */
	aes &= IS_ENABLED(CONFIG_CIPHER_AES);
	if (aes)
		mbedtls_gcm_init(&gcm);
	mbedtls_chachapoly_init(&chacha);
	err = aes ? mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 128)
		  : mbedtls_chachapoly_setkey(&chacha, key);
	for (int i = 0; i < 3 && !err; i++) {
		int64_t begin = clock_now_ns(), taken;

		err = aes ? mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce,
						      sizeof(nonce), NULL, 0, buf, buf, sizeof(tag),
						      tag)
			  : mbedtls_chachapoly_encrypt_and_tag(&chacha, len, nonce, NULL, 0, buf,
							       buf, tag);
		taken = clock_now_ns() - begin;
		if (!err && taken < best)
			best = taken;
	}
	if (aes)
		mbedtls_gcm_free(&gcm);
	mbedtls_chachapoly_free(&chacha);
	return best;
}

/* The better one, and how long a record may be that keeps nobody waiting. */
static const int *choose_ciphers(void)
{
	int64_t aes_ns = INT64_MAX, chacha_ns = INT64_MAX, best_ns;
	size_t mark = arena_mark();
	uint8_t *buf = arena_alloc(ARENA_SCRATCH, TIMED_BYTES, 16);

	if (buf && IS_ENABLED(CONFIG_CIPHER_AES))
		aes_ns = time_cipher_ns(true, buf, TIMED_BYTES);
	if (buf)
		chacha_ns = time_cipher_ns(false, buf, TIMED_BYTES);
	arena_reset(mark);
	best_ns = aes_ns < chacha_ns ? aes_ns : chacha_ns;
	tls.short_record =
		(size_t)((int64_t)TIMED_BYTES * SHORT_RECORD_NS / (best_ns > 0 ? best_ns : 1));
	if (tls.short_record < SHORTEST_RECORD_BYTES)
		tls.short_record = SHORTEST_RECORD_BYTES;
	if (!IS_ENABLED(CONFIG_CIPHER_AES))
		return chacha_only;
	return aes_ns <= chacha_ns ? aes_first : chacha_first;
}

/*
 * Called for each certificate of the peer's chain, the peer's own (depth 0) last. A pinned one is
 * trusted whatever the chain says; without a CA nothing else is. The verdict is kept for
 * transport/tls_session.c, which tells the peer: a handshake that fails here ends in an alert
 * that the other side, one step further in its keys, cannot read.
 */
static int verify(void *data, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
	struct tls_session *session = data;
	int found;

	session->chain_flags |= *flags;
	*flags = 0;
	if (depth != 0)
		return 0;
	session->refused = true;
	if (keys_fingerprint(cert, session->fingerprint))
		return MBEDTLS_ERR_X509_FATAL_ERROR;
	keys_common_name(cert, session->name);
	found = keys_find_peer(tls.keys_fd, tls.keys_dir, session->fingerprint, session->name);
	if (found < 0)
		return MBEDTLS_ERR_X509_FATAL_ERROR;
	session->refused = !found && (!tls.has_ca || session->chain_flags != 0);
	return 0;
}

static void unload(void)
{
	if (!tls.loaded)
		return;
	for (int end = 0; end < 2; end++)
		mbedtls_ssl_config_free(&confs[end]);
	mbedtls_pk_free(&tls.key);
	mbedtls_x509_crt_free(&tls.cert);
	mbedtls_x509_crt_free(&tls.ca);
	close(tls.keys_fd);
	tls.keys_fd = -1;
	tls.loaded = false;
}

/* One end's rules. An error of mbedtls. */
static int make_config(mbedtls_ssl_config *conf, int end, const int *ciphers)
{
	int err = mbedtls_ssl_config_defaults(conf, end, MBEDTLS_SSL_TRANSPORT_STREAM,
					      MBEDTLS_SSL_PRESET_DEFAULT);

	if (err)
		return err;
	mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_3);
	mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_3);
	mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_REQUIRED);
	mbedtls_ssl_conf_rng(conf, mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE);
	mbedtls_ssl_conf_ciphersuites(conf, ciphers);
	mbedtls_ssl_conf_groups(conf, groups);
	mbedtls_ssl_conf_sig_algs(conf, signatures);
	mbedtls_ssl_conf_tls13_key_exchange_modes(conf,
						  MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
	/* mbedtls wants an anchor. Without a CA it is our own certificate; verify() decides. */
	mbedtls_ssl_conf_ca_chain(conf, tls.has_ca ? &tls.ca : &tls.cert, NULL);
	return mbedtls_ssl_conf_own_cert(conf, &tls.cert, &tls.key);
}

int tls_setup(const char *keys_dir)
{
	const int *ciphers;
	int err = tls_init();

	if (err)
		return err;
	unload();
	tls.keys_dir = keys_dir;
	tls.keys_fd = keys_open(keys_dir);
	if (tls.keys_fd < 0)
		return tls.keys_fd;
	tls.loaded = true;
	mbedtls_pk_init(&tls.key);
	mbedtls_x509_crt_init(&tls.cert);
	mbedtls_x509_crt_init(&tls.ca);
	for (int end = 0; end < 2; end++)
		mbedtls_ssl_config_init(&confs[end]);

	err = keys_load(tls.keys_fd, keys_dir, &tls.key, &tls.cert, &tls.ca);
	if (err)
		goto failed;
	tls.has_ca = tls.ca.raw.len > 0;
	ciphers = choose_ciphers();
	err = make_config(&confs[0], MBEDTLS_SSL_IS_CLIENT, ciphers);
	if (!err)
		err = make_config(&confs[1], MBEDTLS_SSL_IS_SERVER, ciphers);
	if (!err)
		return 0;
	err = log_fail(ENOMEM, "TLS cannot be set up (mbedtls -0x%04x)", (unsigned int)-err);
failed:
	unload();
	return err;
}

struct tls_session *tls_session_make(bool accepting, int fd, const char *peer)
{
	struct tls_session *session;
	int err;

	if (!tls.loaded) {
		log_fail(EINVAL, "TLS is used before it is set up");
		return NULL;
	}
	session = mbedtls_calloc(1, sizeof(*session));
	if (!session) {
		log_fail(ENOMEM, "no memory left for a connection with %s", peer);
		return NULL;
	}
	session->fd = fd;
	session->peer = peer;
	session->refused = true; /* until verify() finds otherwise */
	mbedtls_ssl_init(&session->ssl);
	err = mbedtls_ssl_setup(&session->ssl, &confs[accepting]);
	/* Peers are known by their certificate alone: no host name is compared. */
	if (!err && !accepting)
		err = mbedtls_ssl_set_hostname(&session->ssl, NULL);
	if (err) {
		log_fail(ENOMEM, "no memory left for a connection with %s (mbedtls -0x%04x)", peer,
			 (unsigned int)-err);
		tls_session_free(session);
		return NULL;
	}
	mbedtls_ssl_set_verify(&session->ssl, verify, session);
	return session;
}

void tls_session_free(struct tls_session *session)
{
	mbedtls_ssl_free(&session->ssl);
	mbedtls_platform_zeroize(
		session, sizeof(*session)); /* a handshake that was refused leaves secrets */
	mbedtls_free(session);
}
