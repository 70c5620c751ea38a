/* SPDX-License-Identifier: MIT */
/*
 * One TLS session: the handshake with a deadline, then bytes in and out without blocking.
 *
 * The handshake proves that the peer owns the certificate it shows, and no more. Then each side
 * tells the other in one byte whether it trusts that certificate, and a lane is open when both do:
 * so both know before anything is stopped for the move, and each can say which side refused.
 */
#include "transport/tls_context.h"

#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/keys.h"
#include "transport/socket.h"
#include <errno.h>
#include <mbedtls/platform_util.h>
#include <poll.h>
#include <psa/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define VERDICT_TRUSTED 0x01
#define VERDICT_REFUSED 0x02

/* ---- the socket under mbedtls ---- */

/* ECONNABORTED is what a peer's ABORT is called above: a killed connection (ss -K) is a reset here. */
static int socket_errno(void)
{
	return errno == ECONNABORTED ? ECONNRESET : errno;
}

static int bio_send(void *data, const unsigned char *buf, size_t len)
{
	struct tls_session *session = data;
	ssize_t put = send(session->fd, buf, len, MSG_NOSIGNAL | session->end_packet);

	if (put >= 0)
		return (int)put;
	if (errno == EAGAIN || errno == EINTR)
		return MBEDTLS_ERR_SSL_WANT_WRITE;
	session->sys_errno = socket_errno();
	return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static int bio_recv(void *data, unsigned char *buf, size_t len)
{
	struct tls_session *session = data;
	struct iovec part[2] = {{buf, len}, {session->ahead, sizeof(session->ahead)}};
	struct msghdr msg = {.msg_iov = part, .msg_iovlen = 2};
	ssize_t got;

	if (session->nr_ahead) {
		got = (ssize_t)(len < session->nr_ahead ? len : session->nr_ahead);
		memcpy(buf, session->ahead, (size_t)got);
		session->nr_ahead -= (uint8_t)got;
		memmove(session->ahead, session->ahead + got, session->nr_ahead);
		return (int)got;
	}
	/*
	 * The first bytes of a record tell how long it is: only behind one that is asked for whole. Not before
	 * the link is open: the kernel must be able to go on behind the handshake.
	 */
	if (len <= sizeof(session->ahead) || !session->record_bytes)
		got = recv(session->fd, buf, len, 0);
	else
		got = recvmsg(session->fd, &msg, 0);
	if (got > (ssize_t)len) {
		session->nr_ahead = (uint8_t)(got - (ssize_t)len);
		got = (ssize_t)len;
	}
	if (got >= 0)
		return (int)got;
	if (errno == EAGAIN || errno == EINTR)
		return MBEDTLS_ERR_SSL_WANT_READ;
	session->sys_errno = socket_errno();
	return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

/* ---- why it ended ---- */

/* The alert the peer sent: mbedtls keeps it in the record and has no accessor for it. */
static int alert_of(const struct tls_session *session)
{
	const unsigned char *record = session->ssl.MBEDTLS_PRIVATE(in_msg);

	if (session->alert)
		return session->alert;
	return record ? record[1] : 0;
}

static int explain_refused_there(const struct tls_session *session)
{
	return log_fail(
		EKEYREJECTED,
		"%s does not trust this device's certificate; copy this device's cert.pem there "
		"and run: baton trust cert.pem",
		session->peer);
}

static int explain_refused_here(const struct tls_session *session)
{
	char hex[KEYS_FINGERPRINT_TEXT];

	keys_fingerprint_text(session->fingerprint, hex);
	return log_fail(EKEYREJECTED,
			"%s shows a certificate that is not trusted here (name %s, SHA-256 %s); "
			"to trust it run: baton trust CERT.pem",
			session->peer, session->name[0] ? session->name : "none", hex);
}

static int explain_alert(const struct tls_session *session)
{
	int alert = alert_of(session);

	switch (alert) {
	case MBEDTLS_SSL_ALERT_MSG_BAD_CERT:
	case MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT:
	case MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN:
	case MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA:
	case MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED:
	case MBEDTLS_SSL_ALERT_MSG_CERT_REQUIRED:
		return explain_refused_there(session);
	default:
		return log_fail(EPROTO, "%s refused the connection (TLS alert %d)", session->peer,
				alert);
	}
}

/* Turns mbedtls's error into -errno with its reason. */
static int explain(struct tls_session *session, int err, bool handshaking)
{
	const char *when = handshaking ? " during the TLS handshake" : "";

	/* Whatever it was, the link is gone. ECONNABORTED (SOCK_DESTROY) would be a peer's ABORT. */
	if (session->sys_errno)
		return log_fail(ECONNRESET, "the connection with %s broke%s: %s", session->peer,
				when, strerror(session->sys_errno));
	switch (err) {
	case 0:
	case MBEDTLS_ERR_SSL_CONN_EOF:
	case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
		return log_fail(ECONNRESET, "%s closed the connection%s", session->peer, when);
	case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
		return explain_alert(session);
	case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
		return log_fail(EKEYREJECTED, "%s shows no certificate", session->peer);
	case MBEDTLS_ERR_SSL_ALLOC_FAILED:
	case MBEDTLS_ERR_X509_ALLOC_FAILED:
	case (int)PSA_ERROR_INSUFFICIENT_MEMORY:
		return log_fail(ENOMEM,
				"no memory left for the connection with %s; "
				"raise CONFIG_MEMORY_BUDGET_KIB",
				session->peer);
	}
	if (err == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
		return log_fail(EKEYREJECTED, "%s shows a certificate that is not made for TLS",
				session->peer);
	if (handshaking)
		return log_fail(EPROTO, "%s does not speak TLS 1.3 as baton does (mbedtls -0x%04x)",
				session->peer, (unsigned int)-err);
	return log_fail(EPROTO, "%s sent what is no valid TLS (mbedtls -0x%04x)", session->peer,
			(unsigned int)-err);
}

/* ---- the handshake ---- */

/* Waits until mbedtls can go on. 0, -ETIMEDOUT, -EINTR. */
static int wait_for(struct tls_session *session, int want, int64_t deadline)
{
	struct pollfd pfd = {
		.fd = session->fd,
		.events = want == MBEDTLS_ERR_SSL_WANT_WRITE ? POLLOUT : POLLIN,
	};
	int ready = io_poll(&pfd, 1, clock_left_ms(deadline));

	if (ready < 0)
		return log_fail(-ready, "the TLS handshake with %s was interrupted", session->peer);
	if (ready == 0)
		return log_fail(ETIMEDOUT, "%s did not finish the TLS handshake in time",
				session->peer);
	return 0;
}

static bool must_wait(int result)
{
	return result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/*
 * The handshake's steps, in order; each is called again when it had to wait. 0: done, else an error
 * of mbedtls.
 */
enum step { STEP_TLS, STEP_TELL, STEP_HEAR, STEP_END };

static int take_step(struct tls_session *session, enum step step, uint8_t *heard)
{
	uint8_t verdict = session->refused ? VERDICT_REFUSED : VERDICT_TRUSTED;
	int result;

	if (step == STEP_TLS)
		return mbedtls_ssl_handshake(&session->ssl);
	if (step == STEP_TELL)
		result = mbedtls_ssl_write(&session->ssl, &verdict, 1);
	else
		result = mbedtls_ssl_read(&session->ssl, heard, 1);
	if (result == 1)
		return 0;
	return result == 0 ? MBEDTLS_ERR_SSL_CONN_EOF : result;
}

static int handshake(struct tls_session *session, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	enum step step = STEP_TLS;
	uint8_t heard = 0;

	while (step != STEP_END) {
		int result = take_step(session, step, &heard);
		int err = 0;

		if (result == 0 && step == STEP_TELL && session->refused)
			err = explain_refused_here(session);
		else if (result == 0)
			step++;
		else if (must_wait(result))
			err = wait_for(session, result, deadline);
		else if (result != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
			err = explain(session, result, true);
		if (err)
			return err;
	}
	if (heard == VERDICT_REFUSED)
		return explain_refused_there(session);
	if (heard != VERDICT_TRUSTED)
		return log_fail(EPROTO, "%s speaks TLS, but is no baton", session->peer);
	return 0;
}

/* ---- the kernel goes on ---- */

static void keep_secret(void *data, mbedtls_ssl_key_export_type type, const unsigned char *secret,
			size_t len, const unsigned char client_random[32],
			const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
	struct tls_session *session = data;
	bool accepting = type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET;

	(void)client_random;
	(void)server_random;
	(void)prf;
	if (len == KTLS_SECRET_BYTES &&
	    (accepting || type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET))
		memcpy(session->secrets[accepting], secret, len);
}

/* mbedtls takes whole records from the socket and no byte more; what it holds itself would be lost. */
static bool holds_bytes(const mbedtls_ssl_context *ssl)
{
	return mbedtls_ssl_check_pending(ssl) || ssl->MBEDTLS_PRIVATE(in_left) ||
	       ssl->MBEDTLS_PRIVATE(out_left);
}

static struct ktls_direction direction_of(const struct tls_session *session, bool accepted,
					  const unsigned char *sequence)
{
	struct ktls_direction direction = {
		.aes = mbedtls_ssl_get_ciphersuite_id_from_ssl(&session->ssl) ==
		       MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
	};

	memcpy(direction.secret, session->secrets[accepted], KTLS_SECRET_BYTES);
	memcpy(direction.sequence, sequence, KTLS_SEQUENCE_BYTES);
	return direction;
}

/* After the handshake and both verdicts. What the kernel cannot do mbedtls goes on with. */
static void hand_to_kernel(struct tls_session *session, bool accepting)
{
	const mbedtls_ssl_context *ssl = &session->ssl;
	struct ktls_direction theirs =
		direction_of(session, !accepting, ssl->MBEDTLS_PRIVATE(in_ctr));
	struct ktls_direction ours =
		direction_of(session, accepting, ssl->MBEDTLS_PRIVATE(cur_out_ctr));
	int err = holds_bytes(ssl) ? -EBUSY : ktls_attach(session->fd);

	if (!err) {
		err = ktls_receive_with(session->fd, &theirs);
		session->kernel_receives = !err;
	}
	if (!err) {
		err = ktls_send_with(session->fd, &ours);
		session->kernel_sends = !err;
	}
	mbedtls_platform_zeroize(&theirs, sizeof(theirs));
	mbedtls_platform_zeroize(&ours, sizeof(ours));
	if (err)
		log_debug("the kernel does not do the TLS with %s (%s)", session->peer,
			  strerror(-err));
	else
		log_debug("the kernel does the TLS with %s", session->peer);
}

/* What mbedtls_ssl_read would have said. Nothing but data and alerts comes from a baton. */
static int kernel_read(struct tls_session *session, uint8_t *buf, size_t len)
{
	uint8_t type;
	ssize_t got = ktls_receive(session->fd, buf, len, &type);

	if (got == -EAGAIN || got == -EINTR)
		return MBEDTLS_ERR_SSL_WANT_READ;
	if (got == -EBADMSG)
		return MBEDTLS_ERR_SSL_INVALID_MAC;
	if (got < 0) {
		session->sys_errno = (int)-got;
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	}
	if (got == 0 || type == KTLS_DATA)
		return (int)got;
	if (type != KTLS_ALERT)
		return MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
	/* A level and the alert, of which a buffer of one byte has no room for the second. */
	session->alert = got > 1 ? buf[1] : MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY;
	return session->alert == MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY
		       ? MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY
		       : MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE;
}

/*
 * Ends a connection whose handshake failed. Closing with bytes unread would send a reset, and a
 * reset can overtake the alert that tells the peer why; so what still comes is read for a moment.
 */
static void close_softly(int fd)
{
	int64_t deadline = clock_deadline_ms(200);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char junk[512];

	shutdown(fd, SHUT_WR);
	while (io_poll(&pfd, 1, clock_left_ms(deadline)) > 0 &&
	       recv(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		continue;
	close(fd);
}

void tls_forget(struct lane *lane)
{
	tls_session_free(lane->tls);
	lane->tls = NULL;
}

static int open_lane(struct lane *lane, int fd, const char *peer, bool accepting, int timeout_ms)
{
	struct tls_session *session;
	int err = socket_prepare(fd);

	if (err) {
		close(fd);
		return log_fail(-err, "the connection with %s cannot be used: %m", peer);
	}
	session = tls_session_make(accepting, fd, peer);
	if (!session) {
		close(fd);
		return -ENOMEM;
	}
	/* Already now: whoever goes on in our place, after a handshake that we did not survive, frees it. */
	lane->tls = session;
	mbedtls_ssl_set_bio(&session->ssl, session, bio_send, bio_recv, NULL);
	if (IS_ENABLED(CONFIG_KTLS))
		mbedtls_ssl_set_export_keys_cb(&session->ssl, keep_secret, session);
	err = handshake(session, timeout_ms);
	if (!err)
		err = fault_point(FAULT_TLS_HANDSHAKE);
	if (err) {
		tls_forget(lane);
		close_softly(fd);
		return err;
	}
	session->record_bytes = (size_t)mbedtls_ssl_get_max_out_record_payload(&session->ssl);
	if (IS_ENABLED(CONFIG_KTLS))
		hand_to_kernel(session, accepting);
	mbedtls_platform_zeroize(session->secrets, sizeof(session->secrets));
	text_copy(lane->peer, sizeof(lane->peer), peer);
	session->peer = lane->peer;
	lane->fd = fd;
	lane->rx_got = 0;
	lane->tx_len = 0;
	lane->tx_sent = 0;
	return 0;
}

int tls_accept(struct lane *lane, int fd, const char *peer, int timeout_ms)
{
	return open_lane(lane, fd, peer, true, timeout_ms);
}

int tls_connect(struct lane *lane, int fd, const char *peer, int timeout_ms)
{
	return open_lane(lane, fd, peer, false, timeout_ms);
}

int tls_fingerprint(const struct lane *lane, uint8_t out[static TLS_FINGERPRINT_BYTES])
{
	if (lane->fd < 0)
		return -ENOTCONN;
	memcpy(out, lane->tls->fingerprint, TLS_FINGERPRINT_BYTES);
	return 0;
}

const char *tls_peer_name(const struct lane *lane)
{
	return lane->fd < 0 ? "" : lane->tls->name;
}

/* ---- bytes ---- */

size_t tls_record_bytes(const struct lane *lane)
{
	size_t most = lane->tls->record_bytes, limit = tls_identity()->short_record;

	if (lane->tx_short && limit < most)
		most = limit;
	if (lane->tx_packet > TLS_RECORD_OVERHEAD && lane->tx_packet - TLS_RECORD_OVERHEAD < most)
		return lane->tx_packet - TLS_RECORD_OVERHEAD;
	return most;
}

ssize_t tls_write(struct lane *lane, const void *buf, size_t len)
{
	struct tls_session *session = lane->tls;
	int put;

	if (session->broken)
		return session->broken;
	/*
	 * A record that could not be sent is kept by mbedtls, which reports as written, when it is
	 * sent at last, what the call asks for: ask for no more than is in the record.
	 */
	if (session->pending)
		len = session->pending;
	else if (len > tls_record_bytes(lane))
		len = tls_record_bytes(lane);
	if (IS_ENABLED(CONFIG_KTLS) && session->kernel_sends) {
		session->end_packet = 0;           /* tls_sw_sendmsg of older kernels refuses it */
		put = bio_send(session, buf, len); /* one record */
	} else {
		/* Not joined with what follows (net/ipv4/tcp.c, tcp_skb_can_collapse_to). */
		session->end_packet = lane->tx_packet ? MSG_EOR : 0;
		put = mbedtls_ssl_write(&session->ssl, buf, len);
	}
	if (must_wait(put)) {
		session->pending = len;
		return 0;
	}
	session->pending = 0;
	if (put > 0)
		return put;
	session->broken = explain(session, put, false);
	return session->broken;
}

ssize_t tls_read(struct lane *lane, void *buf, size_t len)
{
	struct tls_session *session = lane->tls;
	int got;

	if (session->broken)
		return session->broken;
	do
		got = IS_ENABLED(CONFIG_KTLS) && session->kernel_receives
			      ? kernel_read(session, buf, len)
			      : mbedtls_ssl_read(&session->ssl, buf, len);
	while (got == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
	if (got > 0)
		return got;
	if (must_wait(got))
		return 0;
	session->broken = explain(session, got, false);
	return session->broken;
}

bool tls_has_pending(const struct lane *lane)
{
	/* Of the kernel's poll(2) tells. */
	return !lane->tls->broken && !lane->tls->kernel_receives &&
	       mbedtls_ssl_check_pending(&lane->tls->ssl) != 0;
}

void tls_close(struct lane *lane)
{
	struct tls_session *session = lane->tls;

	/* With a record stuck half sent the notice cannot go out either. */
	if (IS_ENABLED(CONFIG_KTLS) && session->kernel_sends)
		ktls_send_close(session->fd);
	else if (!session->broken && session->pending == 0)
		mbedtls_ssl_close_notify(&session->ssl);
	tls_session_free(session);
	lane->tls = NULL;
}
