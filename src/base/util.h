/*
 * util.h - cleanup attribute, array length, checked arithmetic. Includes nothing of ours.
 */
#ifndef WEIR_BASE_UTIL_H
#define WEIR_BASE_UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define TAKE_PTR(p)                                                                                                    \
	({                                                                                                             \
		__typeof__(p) *take_ = &(p);                                                                           \
		__typeof__(p) taken_ = *take_;                                                                         \
		*take_ = NULL;                                                                                         \
		taken_;                                                                                                \
	})
#define TAKE_FD(fd)                                                                                                    \
	({                                                                                                             \
		int *takefd_ = &(fd);                                                                                  \
		int takenfd_ = *takefd_;                                                                               \
		*takefd_ = -EBADF;                                                                                     \
		takenfd_;                                                                                              \
	})
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* Bytes that need not end in NUL. Points into memory that somebody else owns. */
struct span {
	const char *p;
	size_t n;
};

#define SPAN(literal) ((struct span){ (literal), sizeof(literal) - 1 })

static inline struct span span_of(const char *s)
{
	return (struct span){ s, s ? strlen(s) : 0 };
}

static inline bool span_eq(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

#endif
