/* software.c - the table of clues, and what they have come to for each listening address. */
#include "decode/software.h"

#include "decode/http.h"

#include <ctype.h>
#include <strings.h>

/* What a server that is not the model server's own calls itself: the library below, or the proxy's language. */
static const char *const libraries[] = {
	"uvicorn", "hypercorn", "granian", "gunicorn", "daphne",   "waitress", "werkzeug", "tornado", "tornadoserver", "aiohttp", "python",
	"basehttp", "simplehttp", "cheroot", "hyper",   "cpp-httplib", "evhtp", "drogon",   "jetty",  "kestrel",       "node",
};

enum clue {
	CLUE_SERVER,      /* Server: NAME[/VERSION] */
	CLUE_LITELLM,     /* x-litellm-version */
	CLUE_FINGERPRINT, /* system_fingerprint */
	CLUE_COMPUTE,     /* x-compute-type */
	CLUE_SOLE,        /* a path that one server has */
	CLUE_OWNER,
};

/*
 * The first row that fits an answer names the software; of two answers the one with the upper row. What listens at the address comes
 * before what may stand behind it: a proxy passes other servers' bodies on.
 */
static const struct row {
	enum clue clue;
	const char *value;    /* the clue begins with it, or with several that only differ in what follows; NULL: anything */
	const char *name;     /* NULL: the clue's own words */
	const char *told_by;
} rows[] = {
	{ CLUE_LITELLM, NULL, "litellm", "`x-litellm-version`, the version too" },
	{ CLUE_SERVER, "llama.cpp", "llama.cpp", "`Server: llama.cpp`; its version is `system_fingerprint`" },
	{ CLUE_SERVER, NULL, NULL, "any other `Server: NAME/VERSION`, of a proxy as a rule" },
	{ CLUE_FINGERPRINT, "vllm-", "vllm", "`system_fingerprint` `vllm-VERSION-…`" },
	{ CLUE_FINGERPRINT, "fp_ollama", "ollama", "`system_fingerprint` `fp_ollama`; its version is what `/api/version` says" },
	{ CLUE_COMPUTE, NULL, "tei", "`x-compute-type` beside `x-compute-tokens`" },
	{ CLUE_COMPUTE, NULL, "tgi", "`x-compute-type`; its version is `system_fingerprint`, or what `/info` says" },
	{ CLUE_SOLE, NULL, NULL, "an answer at `/api/version` (Ollama), `/get_server_info` (SGLang)" },
	{ CLUE_OWNER, "vllm", "vllm", "`owned_by` in the list of models; its version is what `/version` says" },
	{ CLUE_OWNER, "sglang", "sglang", "the same" },
	{ CLUE_OWNER, "lmdeploy", "lmdeploy", "the same" },
	{ CLUE_OWNER, "llamacpp", "llama.cpp", "the same" },
	{ CLUE_OWNER, "tensorrt", "tensorrt-llm", "the same" },
	{ CLUE_OWNER, "triton", "triton", "`name` and `version` at `/v2`" },
};
#define NO_ROW ARRAY_SIZE(rows)

struct server {
	struct weir_conn_key at; /* the client's end is zero */
	size_t row;              /* of rows[], NO_ROW: no name yet */
	bool settled;
	char name[SOFTWARE_NAME_MAX + 1], version[SOFTWARE_VERSION_MAX + 1];
	char text[SOFTWARE_MAX];
};

struct software {
	struct server server[SOFTWARE_SERVERS_MAX];
	size_t count;
	uint16_t slot[2 * SOFTWARE_SERVERS_MAX]; /* number + 1, by hash */
};

struct software *software_new(void)
{
	return calloc(1, sizeof(struct software));
}

struct software *software_free(struct software *s)
{
	free(s);
	return NULL;
}

void software_clues_head(struct software_clues *c, const struct http_head *h)
{
	c->server = http_header(h, "server");
	c->litellm = http_header(h, "x-litellm-version");
	c->compute_type = http_header(h, "x-compute-type");
	c->compute_tokens = http_header(h, "x-compute-tokens");
}

/* ---- words ---------------------------------------------------------------------------------------- */
static bool starts(struct span s, const char *with)
{
	size_t n = strlen(with);

	return s.n >= n && !strncasecmp(s.p, with, n);
}

/* Copies the harmless bytes that s begins with. Answers how many they were. */
static size_t word(struct span s, char *buf, size_t max)
{
	size_t n = 0;

	while (n < s.n && n < max && (isalnum((unsigned char)s.p[n]) || (n && memchr("._+-", s.p[n], 4)))) {
		buf[n] = s.p[n];
		n++;
	}
	buf[n] = '\0';
	return n;
}

static struct span after(struct span s, size_t n)
{
	return (struct span){ s.p + n, s.n - n };
}

static bool is_library(struct span product)
{
	for (size_t i = 0; i < ARRAY_SIZE(libraries); i++) {
		size_t n = strlen(libraries[i]);

		/* "uvicorn", "hypercorn-h11", "TornadoServer/6.1" */
		if (starts(product, libraries[i]) && (product.n == n || !isalnum((unsigned char)product.p[n])))
			return true;
	}
	return false;
}

/* ---- one answer ----------------------------------------------------------------------------------- */
static struct span clue_of(const struct software_clues *c, enum clue which)
{
	switch (which) {
	case CLUE_SERVER:
		return is_library(c->server) ? (struct span){ 0 } : c->server;
	case CLUE_LITELLM:
		return c->litellm;
	case CLUE_FINGERPRINT:
		return c->fingerprint;
	case CLUE_COMPUTE:
		return c->compute_type;
	case CLUE_SOLE:
		return c->sole ? span_of(c->sole) : (struct span){ 0 };
	case CLUE_OWNER:
		return c->owner;
	default:
		return (struct span){ 0 };
	}
}

/* The first row that fits; NO_ROW: nothing is told. */
static size_t row_of(const struct software_clues *c)
{
	char name[SOFTWARE_NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct span v = clue_of(c, rows[i].clue);

		if (!v.n || (rows[i].value && !starts(v, rows[i].value)) || (!rows[i].name && !word(v, name, sizeof(name) - 1)))
			continue;
		if (rows[i].clue == CLUE_COMPUTE && !strcmp(rows[i].name, "tei") && !c->compute_tokens.n)
			continue;
		return i;
	}
	return NO_ROW;
}

/* The version that this answer tells of the software of this row, in so far as it tells it. */
static struct span version_of(const struct software_clues *c, const struct row *row, const char *name)
{
	struct span v = clue_of(c, row->clue), f = c->fingerprint;

	switch (row->clue) {
	case CLUE_LITELLM:
		return v;
	case CLUE_SERVER:
		if (row->value)
			break;
		return v.n > strlen(name) + 1 && v.p[strlen(name)] == '/' ? after(v, strlen(name) + 1) : (struct span){ 0 };
	case CLUE_FINGERPRINT:
		if (starts(v, "vllm-")) {
			const char *end;

			v = after(v, 5);
			end = memchr(v.p, '-', v.n); /* then come the parallel sizes and a hash */
			return end ? (struct span){ v.p, (size_t)(end - v.p) } : v;
		}
		break;
	default:
		break;
	}
	/* llama.cpp's own is b<build>-<commit>, TGI's <version>-<image> */
	if ((!strcmp(name, "llama.cpp") && starts(f, "b")) || (!strcmp(name, "tgi") && f.n && isdigit((unsigned char)*f.p)))
		return f;
	return c->version;
}

/* ---- all of a server ------------------------------------------------------------------------------ */
static struct weir_conn_key listener(const struct weir_conn_key *at)
{
	struct weir_conn_key k;

	memset(&k, 0, sizeof(k));
	k.netns = at->netns;
	k.lport = at->lport;
	memcpy(k.laddr, at->laddr, sizeof(k.laddr));
	return k;
}

static size_t slot_of(const struct software *s, const struct weir_conn_key *k)
{
	const uint8_t *p = (const uint8_t *)k;
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	size_t i;

	for (i = 0; i < sizeof(*k); i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	for (i = (size_t)(h ^ h >> 32) % ARRAY_SIZE(s->slot); s->slot[i]; i = (i + 1) % ARRAY_SIZE(s->slot))
		if (!memcmp(&s->server[s->slot[i] - 1].at, k, sizeof(*k)))
			break;
	return i;
}

static void settle(struct server *v)
{
	char text[SOFTWARE_MAX];
	int n = snprintf(text, sizeof(text), "%s%s%s", v->name, *v->version ? "/" : "", v->version);

	memcpy(v->text, text, (size_t)n + 1);
	v->settled = true;
}

void software_note(struct software *s, const struct weir_conn_key *at, const struct software_clues *c, bool model)
{
	struct weir_conn_key k = listener(at);
	size_t row = row_of(c), slot = slot_of(s, &k);
	struct server *v;

	if (!s->slot[slot]) {
		if ((row == NO_ROW && !c->version.n) || s->count == SOFTWARE_SERVERS_MAX)
			return;
		s->server[s->count] = (struct server){ .at = k, .row = NO_ROW };
		s->slot[slot] = (uint16_t)++s->count;
	}
	v = &s->server[s->slot[slot] - 1];
	if (v->settled)
		return;
	if (row < v->row) {
		char name[SOFTWARE_NAME_MAX + 1];

		word(rows[row].name ? span_of(rows[row].name) : clue_of(c, rows[row].clue), name, SOFTWARE_NAME_MAX);
		/* A version stays with its name. What /version said before there was a name goes to the first, unless that brings its own. */
		if ((v->row != NO_ROW && strcmp(name, v->name) != 0) || rows[row].clue == CLUE_SERVER || rows[row].clue == CLUE_LITELLM)
			*v->version = '\0';
		v->row = row;
		memcpy(v->name, name, sizeof(name));
	}
	/* an answer that names other software, in a lower row, says nothing of this one's version */
	if (row == v->row || row == NO_ROW) {
		struct span told = v->row == NO_ROW ? c->version : version_of(c, &rows[v->row], v->name);
		char version[SOFTWARE_VERSION_MAX + 1];

		if (word(told, version, SOFTWARE_VERSION_MAX))
			memcpy(v->version, version, sizeof(version));
	}
	if (model && v->row != NO_ROW)
		settle(v);
}

const char *software_of(const struct software *s, const struct weir_conn_key *at)
{
	struct weir_conn_key k = listener(at);
	uint16_t n = s->slot[slot_of(s, &k)];

	return n && s->server[n - 1].settled ? s->server[n - 1].text : NULL;
}

void software_write_docs(struct str *out)
{
	str_adds(out, "\n## Software\n\n"
		      "What a server is, and which version of it, stands in a record's `server` behind the address ([records.md](records.md))\n"
		      "where its answers tell. Of several rows the upper one counts.\n\n"
		      "| software | told by |\n|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		str_addf(out, "| %s | %s |\n", rows[i].name ? rows[i].name : rows[i].clue == CLUE_SERVER ? "as it says" : "ollama, sglang", rows[i].told_by);
	str_adds(out, "\nPassed over, since model servers of all kinds are built upon them:");
	for (size_t i = 0; i < ARRAY_SIZE(libraries); i++)
		str_addf(out, "%s %s", i ? "," : "", libraries[i]);
	str_adds(out, ".\n");
}
