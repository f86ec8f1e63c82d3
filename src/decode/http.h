/*
 * http.h - reads heads of HTTP/1 messages out of memory, also when they were cut off.
 *
 * For records only: framing is the meter's work (weir/meter.h). Nothing is copied; all spans point into the
 * bytes given. A header line without its line end is not reported, since its value may be cut.
 */
#ifndef WEIR_DECODE_HTTP_H
#define WEIR_DECODE_HTTP_H

#include "base/util.h"

#define HTTP_HEADERS_MAX 256 /* lines looked at; servers here stop at 100 (h11, cpp-httplib) to 128 */

struct http_head {
	bool is_response;
	bool complete; /* the blank line was seen */
	bool is_h2;    /* request: "HTTP/2" at the end of its first line, which is how h2.h writes it */
	struct span method, target;
	struct span path;    /* of the target: no scheme, host, query or fragment; empty where there is none */
	struct span query;   /* what follows the '?' */
	int status;          /* response; 0 where it is cut */
	struct span headers; /* whole lines */
	size_t len;          /* bytes up to the body, where complete */
};

/* 0, or -EBADMSG: this is not HTTP/1. A head that ends early is read as far as it goes. */
int http_parse_head(struct span text, struct http_head *ret);

/* Takes the next header off *rest. False at the end. Lines without a colon are passed over. */
bool http_next_header(struct span *rest, struct span *ret_name, struct span *ret_value);

/* Value of the first header of this name (any case), or an empty span. */
struct span http_header(const struct http_head *h, const char *name);

bool http_name_is(struct span name, const char *lower);

#endif
