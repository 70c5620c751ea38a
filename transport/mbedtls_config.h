/* SPDX-License-Identifier: MIT */
/* What of mbedtls is built: TLS 1.3 with certificates on P-256, memory and randomness from us. */
#ifndef BATON_MBEDTLS_CONFIG_H
#define BATON_MBEDTLS_CONFIG_H

/* The system: memory from the arena, no files, no sockets of its own. */
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_MEMORY_BUFFER_ALLOC_C
/* Until tls_init there is no memory: not that of the C library, whose allocator would be linked for it. */
#define MBEDTLS_PLATFORM_STD_CALLOC NULL
#define MBEDTLS_PLATFORM_STD_FREE NULL
#define MBEDTLS_MEMORY_ALIGN_MULTIPLE 16 /* 4 unless told, and then structures are misaligned */
#define MBEDTLS_MEMORY_DEBUG             /* its peak is what `status` shows */
#define MBEDTLS_HAVE_ASM
/*
 * No clock: many gateways have none that is right, so a certificate's dates are not looked at. To
 * end trust, take the file out of peers/.
 */
/* mbedtls_psa_external_get_random is ours: getrandom(2). */
#define MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG

/* Primitives. */
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_CRYPTO_CONFIG
#define MBEDTLS_PSA_CRYPTO_CONFIG_FILE "transport/psa_config.h"
#define MBEDTLS_USE_PSA_CRYPTO
#define MBEDTLS_PSA_ASSUME_EXCLUSIVE_BUFFERS /* nobody else writes to arguments: no copies */
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#ifdef CONFIG_OPTIMIZE_SIZE
#define MBEDTLS_SHA256_SMALLER
#endif
#define MBEDTLS_HKDF_C
#define MBEDTLS_CIPHER_C
#ifdef CONFIG_CIPHER_AES
#define MBEDTLS_AES_C
#define MBEDTLS_AESNI_C
#define MBEDTLS_AESCE_C
#define MBEDTLS_BLOCK_CIPHER_NO_DECRYPT /* GCM encrypts its counters, in both directions */
#define MBEDTLS_GCM_C
#endif
#define MBEDTLS_CHACHA20_C
#define MBEDTLS_POLY1305_C
#define MBEDTLS_CHACHAPOLY_C
#ifdef CONFIG_CIPHER_LIBGCRYPT /* transport/gcrypt */
#define MBEDTLS_GCM_ALT
#define MBEDTLS_CHACHAPOLY_ALT
#endif
#ifdef CONFIG_OPTIMIZE_SIZE
#define MBEDTLS_PSA_P256M_DRIVER_ENABLED /* p256-m, which mbedtls brings along: this curve and no other */
#else
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_SECP256R1_ENABLED
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_ECDH_C
#define MBEDTLS_ECDSA_C
#define MBEDTLS_ECDSA_DETERMINISTIC
#define MBEDTLS_HMAC_DRBG_C
#endif

/* Keys and certificates: reading them, and making them (keygen). */
#define MBEDTLS_ASN1_PARSE_C
#define MBEDTLS_ASN1_WRITE_C
#define MBEDTLS_BASE64_C
#define MBEDTLS_OID_C
#define MBEDTLS_PEM_PARSE_C
#define MBEDTLS_PEM_WRITE_C
#define MBEDTLS_PK_C
#define MBEDTLS_PK_PARSE_C
#define MBEDTLS_PK_WRITE_C
#define MBEDTLS_X509_USE_C
#define MBEDTLS_X509_REMOVE_INFO /* no names for its fields: nobody prints one */
#define MBEDTLS_X509_CRT_PARSE_C
#define MBEDTLS_X509_CREATE_C
#define MBEDTLS_X509_CRT_WRITE_C

/* TLS 1.3, both ends. */
#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_SRV_C
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ENABLED
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
/* Two devices built with different record sizes tell each other what they can take. */
#define MBEDTLS_SSL_RECORD_SIZE_LIMIT
#define MBEDTLS_SSL_CID_TLS1_3_PADDING_GRANULARITY                                                 \
	1 /* pages have known sizes: padding hides nothing */
#define MBEDTLS_SSL_IN_CONTENT_LEN (CONFIG_TLS_RECORD_KIB * 1024)
#define MBEDTLS_SSL_OUT_CONTENT_LEN (CONFIG_TLS_RECORD_KIB * 1024)

#endif
