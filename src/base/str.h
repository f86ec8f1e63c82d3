/*
 * str.h - a growing byte string with a ceiling, and the JSON writer on top of it.
 *
 * Errors are sticky: after a failed allocation or past the ceiling, further appends do nothing and
 * str_error() answers -ENOMEM or -E2BIG, so that a caller checks once at the end.
 */
#ifndef WEIR_BASE_STR_H
#define WEIR_BASE_STR_H

#include "base/util.h"

#define STR_CEILING_DEFAULT (1u << 20)

struct str {
	char *p; /* always NUL-terminated when not NULL */
	size_t n;
	size_t cap;
	size_t ceiling; /* 0: STR_CEILING_DEFAULT */
	int error;
};

void str_done(struct str *s);
void str_reset(struct str *s); /* empty, error cleared, memory kept */
int str_error(const struct str *s);
void str_add(struct str *s, const char *p, size_t n);
void str_adds(struct str *s, const char *text);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Length of the UTF-8 sequence at p (RFC 3629: no surrogates, no overlong forms); 0 where it is not one. n must be at least 1. */
size_t str_utf8_len(const char *p, size_t n);

/*
 * JSON, compact (no spaces). Commas are placed by looking at the last byte written. Text is escaped
 * (RFC 8259); bytes that are not UTF-8 become U+FFFD. A number that is not finite is written as null.
 */
void json_begin(struct str *s, char bracket);        /* '{' or '[' */
void json_end(struct str *s, char bracket);          /* '}' or ']' */
void json_key(struct str *s, const char *key);       /* key must need no escaping */
void json_string(struct str *s, const char *p, size_t n);
void json_int(struct str *s, int64_t v);
void json_uint(struct str *s, uint64_t v);
void json_double(struct str *s, double v, int decimals); /* at most `decimals` digits after the point, trailing zeros cut */
void json_bool(struct str *s, bool v);
void json_null(struct str *s);

/* key and value in one call */
void json_kstring(struct str *s, const char *key, struct span v);
void json_kint(struct str *s, const char *key, int64_t v);
void json_kuint(struct str *s, const char *key, uint64_t v);
void json_kdouble(struct str *s, const char *key, double v, int decimals);
void json_kbool(struct str *s, const char *key, bool v);

#endif
