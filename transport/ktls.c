/* SPDX-License-Identifier: MIT */
/* Keys of a TLS 1.3 connection for the kernel, and its records beside those with data. */
#include "transport/ktls.h"

#include <errno.h>
#include <linux/tls.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/platform_util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

#define IV_BYTES 12
#define LABEL_MAX 18

int ktls_expand(const uint8_t secret[static KTLS_SECRET_BYTES], const char *label, uint8_t *out,
		size_t len)
{
	/* struct HkdfLabel: two bytes of length, the label behind its length, an empty context (0). */
	uint8_t info[3 + LABEL_MAX + 1] = {0, (uint8_t)len};
	int name = snprintf((char *)info + 3, LABEL_MAX + 1, "tls13 %s", label);

	if (name < 0 || name > LABEL_MAX || len > KTLS_SECRET_BYTES)
		return MBEDTLS_ERR_HKDF_BAD_INPUT_DATA;
	info[2] = (uint8_t)name;
	return mbedtls_hkdf_expand(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), secret,
				   KTLS_SECRET_BYTES, info, 3 + (size_t)name + 1, out, len);
}

int ktls_attach(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ? -errno : 0;
}

/* In TLS 1.3 the nonce is salt and iv, one behind the other, changed by the sequence number. */
static int set_keys(int fd, int way, const struct ktls_direction *direction)
{
	struct tls12_crypto_info_aes_gcm_128 aes = {
		.info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128}};
	struct tls12_crypto_info_chacha20_poly1305 chacha = {
		.info = {TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305}};
	uint8_t iv[IV_BYTES];
	int err = ktls_expand(direction->secret, "iv", iv, IV_BYTES);

	if (!err && direction->aes)
		err = ktls_expand(direction->secret, "key", aes.key, sizeof(aes.key));
	else if (!err)
		err = ktls_expand(direction->secret, "key", chacha.key, sizeof(chacha.key));
	if (err)
		return -EIO;
	if (direction->aes) {
		memcpy(aes.salt, iv, sizeof(aes.salt));
		memcpy(aes.iv, iv + sizeof(aes.salt), sizeof(aes.iv));
		memcpy(aes.rec_seq, direction->sequence, sizeof(aes.rec_seq));
		err = setsockopt(fd, SOL_TLS, way, &aes, sizeof(aes)) ? -errno : 0;
	} else {
		memcpy(chacha.iv, iv, sizeof(chacha.iv));
		memcpy(chacha.rec_seq, direction->sequence, sizeof(chacha.rec_seq));
		err = setsockopt(fd, SOL_TLS, way, &chacha, sizeof(chacha)) ? -errno : 0;
	}
	mbedtls_platform_zeroize(&aes, sizeof(aes));
	mbedtls_platform_zeroize(&chacha, sizeof(chacha));
	mbedtls_platform_zeroize(iv, sizeof(iv));
	return err;
}

int ktls_send_with(int fd, const struct ktls_direction *direction)
{
	return set_keys(fd, TLS_TX, direction);
}

int ktls_receive_with(int fd, const struct ktls_direction *direction)
{
	return set_keys(fd, TLS_RX, direction);
}

/* The type of a record stands beside its data. */
union control {
	struct cmsghdr header;
	uint8_t space[CMSG_SPACE(sizeof(uint8_t))];
};

ssize_t ktls_receive(int fd, void *buf, size_t len, uint8_t *type)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	union control control = {0};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	ssize_t got = recvmsg(fd, &msg, 0);

	if (got < 0)
		return -errno;
	*type = KTLS_DATA;
	header = CMSG_FIRSTHDR(&msg);
	if (header && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE)
		*type = *CMSG_DATA(header);
	return got;
}

void ktls_send_close(int fd)
{
	uint8_t alert[2] = {1, 0}; /* warning, close_notify */
	struct iovec iov = {.iov_base = alert, .iov_len = sizeof(alert)};
	union control control = {0};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_TLS;
	header->cmsg_type = TLS_SET_RECORD_TYPE;
	header->cmsg_len = CMSG_LEN(sizeof(uint8_t));
	*CMSG_DATA(header) = KTLS_ALERT;
	sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}
