/* SPDX-License-Identifier: MIT */
/* Numbers and fields in text: /proc files, arguments, keys in hexadecimal. */
#ifndef BATON_TEXT_H
#define BATON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `text` must be a number of this base (10, 16, 8) and nothing else. -EINVAL, -ERANGE. */
int text_parse_u64(const char *text, unsigned int base, uint64_t *value);

/* The same with a sign allowed, and with a lower and an upper bound for arguments. */
int text_parse_i64(const char *text, unsigned int base, int64_t *value);
int text_parse_int(const char *text, int min, int max, int *value);

/*
 * Takes a number from the front of *cursor: spaces and tabs before it are skipped, the cursor is
 * left behind its last digit. False when there is none (or it exceeds 64 bits); the cursor then
 * stays where it was.
 */
bool text_take_u64(const char **cursor, unsigned int base, uint64_t *value);
bool text_take_i64(const char **cursor, unsigned int base, int64_t *value);

/* Takes one character. False when another one is there. */
bool text_take_char(const char **cursor, char wanted);

/* Takes a word up to the next blank or end into `word`. False when none, or cap is too small. */
bool text_take_word(const char **cursor, char *word, size_t cap);

/* When `line` begins with `key`: what follows it, without leading spaces and tabs. Else NULL. */
const char *text_after(const char *line, const char *key);

/* Copies and terminates; false when it does not fit (then cut to fit). */
bool text_copy(char *out, size_t cap, const char *text);

/* Lower case hexadecimal, `separator` between bytes unless it is '\0'; at most 3 * len + 1 bytes. */
void text_put_hex(char *out, const uint8_t *bytes, size_t len, char separator);

/* 2 * len hexadecimal digits and nothing else. -EINVAL. */
int text_parse_hex(const char *text, uint8_t *out, size_t len);

#endif
