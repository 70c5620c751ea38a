/* SPDX-License-Identifier: MIT */
/* Numbers and fields in text. */
#include "lib/text.h"

#include <errno.h>
#include <string.h>

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Digits at `text`: how many, 0 when none; -ERANGE. */
static int take_digits(const char *text, unsigned int base, uint64_t *value)
{
	uint64_t sum = 0;
	int count = 0;

	for (;; count++) {
		unsigned int digit = (unsigned int)digit_value(text[count]);

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(sum, (uint64_t)base, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)digit, &sum))
			return -ERANGE;
	}
	*value = sum;
	return count;
}

int text_parse_u64(const char *text, unsigned int base, uint64_t *value)
{
	uint64_t sum;
	int count = take_digits(text, base, &sum);

	if (count < 0)
		return count;
	if (count == 0 || text[count] != '\0')
		return -EINVAL;
	*value = sum;
	return 0;
}

/* Applies a sign to a magnitude. */
static int signed_value(uint64_t magnitude, bool negative, int64_t *value)
{
	if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return -ERANGE;
	*value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	return 0;
}

int text_parse_i64(const char *text, unsigned int base, int64_t *value)
{
	bool negative = *text == '-';
	uint64_t magnitude;
	int err = text_parse_u64(text + negative, base, &magnitude);

	return err ? err : signed_value(magnitude, negative, value);
}

int text_parse_int(const char *text, int min, int max, int *value)
{
	int64_t wide;
	int err = text_parse_i64(text, 10, &wide);

	if (err)
		return err;
	if (wide < min || wide > max)
		return -ERANGE;
	*value = (int)wide;
	return 0;
}

static const char *skip_blanks(const char *text)
{
	while (*text == ' ' || *text == '\t')
		text++;
	return text;
}

bool text_take_u64(const char **cursor, unsigned int base, uint64_t *value)
{
	const char *text = skip_blanks(*cursor);
	int count = take_digits(text, base, value);

	if (count <= 0)
		return false;
	*cursor = text + count;
	return true;
}

bool text_take_i64(const char **cursor, unsigned int base, int64_t *value)
{
	const char *text = skip_blanks(*cursor);
	bool negative = *text == '-';
	uint64_t magnitude;
	int count = take_digits(text + negative, base, &magnitude);

	if (count <= 0 || signed_value(magnitude, negative, value))
		return false;
	*cursor = text + negative + count;
	return true;
}

bool text_take_char(const char **cursor, char wanted)
{
	if (**cursor != wanted)
		return false;
	(*cursor)++;
	return true;
}

bool text_take_word(const char **cursor, char *word, size_t cap)
{
	const char *text = skip_blanks(*cursor);
	size_t len = strcspn(text, " \t\n");

	if (len == 0 || len >= cap)
		return false;
	memcpy(word, text, len);
	word[len] = '\0';
	*cursor = text + len;
	return true;
}

const char *text_after(const char *line, const char *key)
{
	size_t len = strlen(key);

	return strncmp(line, key, len) == 0 ? skip_blanks(line + len) : NULL;
}

bool text_copy(char *out, size_t cap, const char *text)
{
	size_t len = strlen(text);
	bool fits = len < cap;

	if (cap == 0)
		return false;
	if (!fits)
		len = cap - 1;
	memcpy(out, text, len);
	out[len] = '\0';
	return fits;
}

void text_put_hex(char *out, const uint8_t *bytes, size_t len, char separator)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		if (i > 0 && separator != '\0')
			*out++ = separator;
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

int text_parse_hex(const char *text, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high = digit_value(text[2 * i]);
		int low = high < 16 ? digit_value(text[2 * i + 1]) : 16;

		if (low >= 16)
			return -EINVAL;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return text[2 * len] == '\0' ? 0 : -EINVAL;
}
