/* Columns by name, and the values of one field. */
#include "decode/record_parse.h"

#include <math.h>

/* What a count may reach: beyond 2^53 a double, and so most of the world's JSON, no longer holds it. */
#define COUNT_MAX (INT64_C(1) << 53)
#define WEIGHT_MAX 1000000000 /* a second of lost requests at any rate that a host can serve */
#define TIME_MAX 253402300799.0 /* the year 9999: later numbers are milliseconds or worse */
#define NAME_MAX_FOLDED 32

/* The first name of a column is its own; all are written folded (lower case, no '_', '-', ' ', '.', '@'). */
static const struct alias {
	const char *name;
	uint8_t id;
	bool canonical;
} aliases[] = {
	{ "timestamp", COL_TIMESTAMP, true },
	{ "time", COL_TIMESTAMP, false },
	{ "ts", COL_TIMESTAMP, false },
	{ "datetime", COL_TIMESTAMP, false },
	{ "date", COL_TIMESTAMP, false },
	{ "arrival", COL_TIMESTAMP, false },
	{ "arrivaltime", COL_TIMESTAMP, false },
	{ "starttime", COL_TIMESTAMP, false },
	{ "kind", COL_KIND, true },
	{ "weight", COL_WEIGHT, true },
	{ "clientip", F_CLIENT_IP, true },
	{ "ip", F_CLIENT_IP, false },
	{ "client", F_CLIENT_IP, false },
	{ "clientaddr", F_CLIENT_IP, false },
	{ "clientaddress", F_CLIENT_IP, false },
	{ "remoteaddr", F_CLIENT_IP, false },
	{ "remoteip", F_CLIENT_IP, false },
	{ "sourceip", F_CLIENT_IP, false },
	{ "srcip", F_CLIENT_IP, false },
	{ "modelname", F_MODEL_NAME, true },
	{ "model", F_MODEL_NAME, false },
	{ "modelid", F_MODEL_NAME, false },
	{ "apikey", F_API_KEY, true },
	{ "apikeyhash", F_API_KEY, false },
	{ "apikeyid", F_API_KEY, false },
	{ "keyhash", F_API_KEY, false },
	{ "keyid", F_API_KEY, false },
	{ "key", F_API_KEY, false },
	{ "user", F_USER, true },
	{ "userid", F_USER, false },
	{ "username", F_USER, false },
	{ "useragent", F_USER_AGENT, true },
	{ "httpuseragent", F_USER_AGENT, false },
	{ "agent", F_USER_AGENT, false },
	{ "server", F_SERVER, true },
	{ "serveraddr", F_SERVER, false },
	{ "backend", F_SERVER, false },
	{ "upstream", F_SERVER, false },
	{ "host", F_HOST, true },
	{ "hostname", F_HOST, false },
	{ "node", F_HOST, false },
	{ "path", F_PATH, true },
	{ "uri", F_PATH, false },
	{ "urlpath", F_PATH, false },
	{ "endpoint", F_PATH, false },
	{ "route", F_PATH, false },
	{ "finishreason", F_FINISH_REASON, true },
	{ "stopreason", F_FINISH_REASON, false },
	{ "requestid", F_REQUEST_ID, true },
	{ "reqid", F_REQUEST_ID, false },
	{ "id", F_REQUEST_ID, false },
	{ "prompttokens", F_PROMPT_TOKENS, true },
	{ "requesttokens", F_PROMPT_TOKENS, false },
	{ "inputtokens", F_PROMPT_TOKENS, false },
	{ "contexttokens", F_PROMPT_TOKENS, false },
	{ "inputlength", F_PROMPT_TOKENS, false },
	{ "numprefilltokens", F_PROMPT_TOKENS, false },
	{ "completiontokens", F_COMPLETION_TOKENS, true },
	{ "responsetokens", F_COMPLETION_TOKENS, false },
	{ "outputtokens", F_COMPLETION_TOKENS, false },
	{ "generatedtokens", F_COMPLETION_TOKENS, false },
	{ "outputlength", F_COMPLETION_TOKENS, false },
	{ "numdecodetokens", F_COMPLETION_TOKENS, false },
	{ "cachedtokens", F_CACHED_TOKENS, true },
	{ "cachedinputtokens", F_CACHED_TOKENS, false },
	{ "reasoningtokens", F_REASONING_TOKENS, true },
	{ "status", F_STATUS, true },
	{ "statuscode", F_STATUS, false },
	{ "httpstatus", F_STATUS, false },
	{ "code", F_STATUS, false },
	{ "maxtokens", F_MAX_TOKENS, true },
	{ "retry", F_RETRY, true },
	{ "retries", F_RETRY, false },
	{ "promptchars", F_PROMPT_CHARS, true },
	{ "prompthash", F_PROMPT_HASH, true },
	{ "promptsim", F_PROMPT_SIM, true },
	{ "ttftms", F_TTFT_MS, true },
	{ "durationms", F_DURATION_MS, true },
	{ "latencyms", F_DURATION_MS, false },
	{ "responsetimems", F_DURATION_MS, false },
	{ "elapsedms", F_DURATION_MS, false },
	{ "promptentropy", F_PROMPT_ENTROPY, true },
	{ "injectionscore", F_INJECTION_SCORE, true },
	{ "estimated", F_ESTIMATED, true },
	{ "stream", F_STREAM, true },
	{ "streaming", F_STREAM, false },
	{ "logprobs", F_LOGPROBS, true },
	{ "aborted", F_ABORTED, true },
	{ "lost", F_LOST, true },
};
_Static_assert(ARRAY_SIZE(aliases) < 255 && ARRAY_SIZE(aliases) * 4 < COLUMN_SLOTS * 2, "the table is too full");

static uint32_t fold_hash(const char *p, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 16777619u;
	return h ^ (h >> 15);
}

void column_table_init(struct column_table *t)
{
	memset(t->slot, 255, sizeof(t->slot));
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		uint32_t s = fold_hash(aliases[i].name, strlen(aliases[i].name));

		while (t->slot[s % COLUMN_SLOTS] != 255)
			s++;
		t->slot[s % COLUMN_SLOTS] = (uint8_t)i;
	}
}

struct column column_of_name(const struct column_table *t, struct span name)
{
	struct column none = { COL_NONE, false };
	char folded[NAME_MAX_FOLDED];
	size_t n = 0;
	uint32_t s;

	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c == '_' || c == '-' || c == ' ' || c == '.' || c == '@')
			continue;
		if (n == sizeof(folded))
			return none;
		folded[n++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
	}
	for (s = fold_hash(folded, n); t->slot[s % COLUMN_SLOTS] != 255; s++) {
		const struct alias *a = &aliases[t->slot[s % COLUMN_SLOTS]];

		if (strlen(a->name) == n && !memcmp(a->name, folded, n))
			return (struct column){ a->id, a->canonical };
	}
	return none;
}

const char *column_name(unsigned int id)
{
	return id == COL_TIMESTAMP ? "timestamp" : id == COL_KIND ? "kind" : id == COL_WEIGHT ? "weight" : record_field_name((enum record_field)id);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * [+-]digits[.digits][e[+-]digits], nothing else: no hex, no "inf", no "nan". `*ret_int` is set where the text is a whole number
 * that fits. NULL, or what is wrong.
 */
static const char *parse_number(struct span v, double *ret, int64_t *ret_int, bool *ret_whole)
{
	static const double pow10[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
					1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
	const char *p = v.p, *end = v.p + v.n;
	bool minus = false, overflow = false, fraction = false;
	uint64_t m = 0;
	int digits = 0, exp10 = 0, e = 0;
	double d;

	if (p < end && (*p == '-' || *p == '+'))
		minus = *p++ == '-';
	for (; p < end && is_digit(*p); p++, digits++) {
		if (m > (UINT64_MAX - 9) / 10)
			overflow = true;
		else
			m = m * 10 + (uint64_t)(*p - '0');
	}
	if (p < end && *p == '.') {
		for (p++; p < end && is_digit(*p); p++, digits++) {
			fraction |= *p != '0';
			if (m > (UINT64_MAX - 9) / 10) {
				overflow = true;
			} else {
				m = m * 10 + (uint64_t)(*p - '0');
				exp10--;
			}
		}
	}
	if (!digits)
		return "is not a number";
	if (p < end && (*p == 'e' || *p == 'E')) {
		bool eminus = false;
		int edigits = 0;

		if (++p < end && (*p == '-' || *p == '+'))
			eminus = *p++ == '-';
		for (; p < end && is_digit(*p); p++, edigits++)
			e = e < 10000 ? e * 10 + (*p - '0') : e;
		if (!edigits)
			return "is not a number";
		exp10 += eminus ? -e : e;
	}
	if (p != end)
		return "is not a number";

	if (!overflow && m <= (UINT64_C(1) << 53) && exp10 >= -22 && exp10 <= 22) {
		/* Both factors are exact, so the one rounding gives the nearest double. */
		d = exp10 < 0 ? (double)m / pow10[-exp10] : (double)m * pow10[exp10];
		d = minus ? -d : d;
	} else {
		char copy[512];

		if (v.n >= sizeof(copy))
			return "is too long for a number";
		memcpy(copy, v.p, v.n);
		copy[v.n] = '\0';
		d = strtod(copy, NULL);
	}
	if (!isfinite(d))
		return "is beyond any number";
	*ret = d;
	*ret_whole = fabs(d) <= (double)COUNT_MAX && d == floor(d) && !(fraction && !e);
	*ret_int = *ret_whole ? (int64_t)d : 0;
	return NULL;
}

static bool two(const char *p, int *ret)
{
	if (!is_digit(p[0]) || !is_digit(p[1]))
		return false;
	*ret = (p[0] - '0') * 10 + (p[1] - '0');
	return true;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar. */
static int64_t days_of_date(int y, int m, int d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = y / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static const char *parse_date(struct span v, double *ret)
{
	static const int month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	static const char bad[] = "is neither epoch seconds nor a date like 2026-01-31T12:00:00Z";
	const char *p = v.p, *end = v.p + v.n;
	int century, year, month, day, hour, minute, second, zone = 0;
	uint64_t fraction = 0, scale = 1;
	bool leap;

	if (v.n < 19 || !two(p, &century) || !two(p + 2, &year) || p[4] != '-' || !two(p + 5, &month) || p[7] != '-' || !two(p + 8, &day))
		return bad;
	if ((p[10] != 'T' && p[10] != 't' && p[10] != ' ') || !two(p + 11, &hour) || p[13] != ':' || !two(p + 14, &minute) || p[16] != ':' ||
	    !two(p + 17, &second))
		return bad;
	year += century * 100;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > month_days[month - 1] + (month == 2 && leap) || hour > 23 || minute > 59 ||
	    second > 60)
		return "is a date that does not exist";
	p += 19;
	if (p < end && (*p == '.' || *p == ',')) {
		if (++p == end || !is_digit(*p))
			return bad;
		for (; p < end && is_digit(*p); p++) {
			if (scale < UINT64_C(1000000000000)) {
				fraction = fraction * 10 + (uint64_t)(*p - '0');
				scale *= 10;
			}
		}
	}
	while (p < end && *p == ' ')
		p++;
	if (p < end && (*p == 'Z' || *p == 'z')) {
		p++;
	} else if (p < end && (*p == '+' || *p == '-')) {
		int zh, zm = 0;
		bool west = *p++ == '-';

		if (end - p < 2 || !two(p, &zh))
			return bad;
		p += 2;
		if (p < end && *p == ':')
			p++;
		if (p < end) {
			if (end - p < 2 || !two(p, &zm))
				return bad;
			p += 2;
		}
		if (zh > 23 || zm > 59)
			return bad;
		zone = (zh * 3600 + zm * 60) * (west ? -1 : 1);
	} else if (end - p == 3 && !memcmp(p, "UTC", 3)) {
		p += 3;
	}
	if (p != end)
		return bad;
	*ret = (double)(days_of_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone) + (double)fraction / (double)scale;
	return NULL;
}

static struct span trim(struct span v)
{
	while (v.n && (v.p[0] == ' ' || v.p[0] == '\t'))
		v.p++, v.n--;
	while (v.n && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t' || v.p[v.n - 1] == '\r'))
		v.n--;
	return v;
}

const char *record_parse_time(struct span text, double *ret)
{
	const char *why;
	int64_t whole;
	bool is_whole;
	double t = 0;

	text = trim(text);
	if (!text.n)
		return "is empty";
	if (text.n >= 19 && text.p[4] == '-')
		why = parse_date(text, &t);
	else if (parse_number(text, &t, &whole, &is_whole))
		why = "is neither epoch seconds nor a date like 2026-01-31T12:00:00Z";
	else
		why = NULL;
	if (why)
		return why;
	if (t < 0)
		return "is before 1970";
	if (t > TIME_MAX)
		return "is beyond the year 9999 (seconds are wanted, not milliseconds)";
	*ret = t;
	return NULL;
}

void record_parse_begin(struct record_parse *p, struct record *r)
{
	*p = (struct record_parse){ .r = r };
	/* The arrays need no clearing: a value counts only where its bit is set. */
	r->timestamp = 0;
	r->has = r->yes = 0;
	r->weight = 1;
	r->kind = KIND_UNKNOWN;
}

static void value_bad(struct record_parse *p, unsigned int id, const char *why)
{
	if (!p->bad_values++) {
		p->bad_column = id;
		p->bad_why = why;
	}
}

/* A number that is not below 0; as parse_number() otherwise. */
static const char *parse_amount(struct span v, double *ret, int64_t *ret_int, bool *ret_whole)
{
	const char *why = parse_number(v, ret, ret_int, ret_whole);

	return why ? why : *ret < 0 ? "is negative" : NULL;
}

static const char *set_count(struct record *r, unsigned int id, struct span v)
{
	int64_t n;
	double d;
	bool whole;
	const char *why = parse_amount(v, &d, &n, &whole);

	if (why)
		return why;
	if (!whole)
		return d > (double)COUNT_MAX ? "is beyond any count" : "is not a whole number";
	if (id == COL_WEIGHT) {
		if (n < 1 || n > WEIGHT_MAX)
			return "is not between 1 and 1000000000";
		r->weight = n;
		return NULL;
	}
	if (id == F_STATUS && n > 999)
		return "is no HTTP status";
	if (id == F_STATUS && !n)
		return NULL; /* "no response yet" in some logs */
	r->num[id - F_INT_FIRST] = n;
	r->has |= F_BIT(id);
	return NULL;
}

static const char *set_hash(struct record *r, unsigned int id, struct span v)
{
	uint64_t h = 0;

	if (v.n > 2 && v.p[0] == '0' && (v.p[1] == 'x' || v.p[1] == 'X'))
		v.p += 2, v.n -= 2;
	if (!v.n || v.n > 16)
		return "is not 64 bits in hex";
	for (size_t i = 0; i < v.n; i++) {
		char c = v.p[i];
		int d = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (d < 0)
			return "is not 64 bits in hex";
		h = h << 4 | (uint64_t)d;
	}
	r->num[id - F_INT_FIRST] = (int64_t)h;
	r->has |= F_BIT(id);
	return NULL;
}

static const char *set_real(struct record *r, unsigned int id, struct span v)
{
	int64_t n;
	double d;
	bool whole;
	const char *why = parse_amount(v, &d, &n, &whole);

	if (why)
		return why;
	if (id == F_INJECTION_SCORE && d > 1)
		return "is above 1";
	r->real[id - F_INT_END] = d;
	r->has |= F_BIT(id);
	return NULL;
}

static bool word(struct span v, const char *w)
{
	size_t n = strlen(w);

	if (v.n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((v.p[i] | 32) != w[i])
			return false;
	return true;
}

static const char *set_bool(struct record *r, unsigned int id, struct span v)
{
	bool yes = word(v, "true") || word(v, "yes") || (v.n == 1 && (v.p[0] == '1' || (v.p[0] | 32) == 't'));

	if (!yes && !word(v, "false") && !word(v, "no") && !(v.n == 1 && (v.p[0] == '0' || (v.p[0] | 32) == 'f')))
		return "is neither true nor false";
	record_set_bool(r, (enum record_field)id, yes);
	return NULL;
}

static const char *set_kind(struct record *r, struct span v)
{
	for (enum record_kind k = KIND_INFERENCE; k <= KIND_OTHER; k++) {
		if (word(v, record_kind_name(k))) {
			r->kind = k;
			return NULL;
		}
	}
	return "is no kind";
}

void record_parse_value(struct record_parse *p, struct column c, enum value_type type, struct span v)
{
	struct record *r = p->r;
	unsigned int id = c.id;
	const char *why = NULL;

	if (p->canonical >> id & 1 && !c.canonical)
		return;
	if (c.canonical)
		p->canonical |= UINT64_C(1) << id;

	/* The last of two values wins, also where it is a bad one. */
	if (id < F_FIELD_COUNT)
		r->has &= ~F_BIT(id);
	else if (id == COL_TIMESTAMP)
		p->has_time = false, p->time_error = NULL;
	else if (id == COL_KIND)
		r->kind = KIND_UNKNOWN;
	else
		r->weight = 1;

	if (type == VALUE_NULL)
		return;
	if (id == COL_TIMESTAMP) {
		p->time_error = type == VALUE_NESTED || type == VALUE_BOOL ? "is not a time" : record_parse_time(v, &r->timestamp);
		p->has_time = !p->time_error;
		return;
	}
	if (type == VALUE_NESTED) {
		value_bad(p, id, "is of the wrong type");
		return;
	}
	if (id < F_TEXT_COUNT) {
		if (type == VALUE_BOOL)
			why = "is of the wrong type";
		else
			record_set_text(r, (enum record_field)id, v);
	} else {
		v = trim(v);
		if (!v.n && (type == VALUE_CELL || type == VALUE_TEXT))
			return;
		if (id == F_PROMPT_HASH || id == F_PROMPT_SIM)
			why = type == VALUE_NUMBER || type == VALUE_BOOL ? "is not 64 bits in hex" : set_hash(r, id, v);
		else if (id < F_INT_END || id == COL_WEIGHT)
			why = set_count(r, id, v);
		else if (id < F_REAL_END)
			why = set_real(r, id, v);
		else if (id < F_FIELD_COUNT)
			why = set_bool(r, id, v);
		else
			why = set_kind(r, v);
	}
	if (why)
		value_bad(p, id, why);
}

const char *record_parse_end(struct record_parse *p)
{
	if (!p->has_time)
		return p->time_error ? p->time_error : "is missing";
	if (p->r->kind == KIND_UNKNOWN)
		p->r->kind = record_kind_of_path(record_text(p->r, F_PATH));
	return NULL;
}
