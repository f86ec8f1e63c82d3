#include "capture/tls_look.h"

#define MAPS_MAX (4u << 20) /* bytes of one /proc/PID/maps; a process with 20,000 mappings has less */

const struct tls_function tls_functions[TLS_FUNCTIONS] = {
	{ "SSL_read", WEIR_TLS_READ, true },
	{ "SSL_read_ex", WEIR_TLS_READ_EX, true },
	{ "SSL_write", WEIR_TLS_WRITE, false },
	{ "SSL_write_ex", WEIR_TLS_WRITE_EX, false },
	{ "SSL_do_handshake", WEIR_TLS_HANDSHAKE, true },
	{ "SSL_free", WEIR_TLS_FREE, false },
	{ "SSL_clear", WEIR_TLS_FREE, false },
	{ "gnutls_record_recv", WEIR_TLS_READ, true },
	{ "gnutls_record_send2", WEIR_TLS_RECORD_WRITE, false },
	{ "gnutls_record_send", WEIR_TLS_RECORD_WRITE, false },
	{ "gnutls_handshake", WEIR_TLS_HANDSHAKE, true },
	{ "gnutls_deinit", WEIR_TLS_FREE, false },
};

const char *tls_kind_name(enum tls_kind k)
{
	static const char *const names[] = { "none", "OpenSSL", "GnuTLS", "Go", "rustls", "static, stripped" };

	return k <= TLS_STRIPPED ? names[k] : "?";
}

const char *tls_kind_lost(enum tls_kind k)
{
	switch (k) {
	case TLS_GO:
		return "TLS of Go's crypto/tls is not metered: end TLS in a proxy in front (nginx, HAProxy, Caddy on another host), and watch the plaintext hop behind it";
	case TLS_RUSTLS:
		return "TLS of rustls is not metered: end TLS in a proxy in front (nginx, HAProxy), and watch the plaintext hop behind it";
	case TLS_STRIPPED:
		return "its TLS library is linked in and its names were stripped, so TLS is not metered: install the build with symbols, or end TLS in a proxy in front and watch the plaintext hop behind it";
	default:
		return "";
	}
}

size_t tls_steps(const uint64_t offset[TLS_FUNCTIONS], struct tls_step ret[TLS_STEPS])
{
	bool send2 = false;
	size_t n = 0;

	for (size_t i = 0; i < TLS_FUNCTIONS; i++)
		send2 |= offset[i] && !strcmp(tls_functions[i].symbol, "gnutls_record_send2");
	for (int entries = 0; entries < 2; entries++)
		for (size_t i = 0; i < TLS_FUNCTIONS; i++) {
			if (!offset[i] || (!entries && !tls_functions[i].returns) || (send2 && !strcmp(tls_functions[i].symbol, "gnutls_record_send")))
				continue;
			ret[n++] = (struct tls_step){ offset[i], entries ? tls_functions[i].probe : WEIR_TLS_RETURN };
		}
	return n;
}

/* ---- files ------------------------------------------------------------------------------------------- */
static bool has(const struct tls_symbol *at, const char *name)
{
	for (size_t i = 0; i < TLS_FUNCTIONS; i++)
		if (!strcmp(at[i].name, name))
			return at[i].offset != 0;
	return false;
}

/* What a file without names that we know has inside. Read in whole, so only for a server's own program and the modules that are one. */
static enum tls_kind kind_of_rest(int fd, const struct tls_elf *elf)
{
	if (elf->go)
		return TLS_GO;
	if (tls_elf_mentions(fd, SPAN("rustls/src/")) || tls_elf_mentions(fd, SPAN("/rustls-0.")))
		return TLS_RUSTLS;
	/* of OpenSSL's version text, and of BoringSSL's sources, as gRPC builds them too */
	if (tls_elf_mentions(fd, SPAN("OpenSSL 1.1.")) || tls_elf_mentions(fd, SPAN("OpenSSL 3.")) || tls_elf_mentions(fd, SPAN("boringssl/")) ||
	    tls_elf_mentions(fd, SPAN("boringssl-with-bazel/")))
		return TLS_STRIPPED;
	return TLS_NOTHING;
}

static enum tls_kind kind_of(int fd, bool inside, struct tls_symbol at[TLS_FUNCTIONS])
{
	struct tls_elf elf = { 0 };

	for (size_t i = 0; i < TLS_FUNCTIONS; i++)
		at[i] = (struct tls_symbol){ .name = tls_functions[i].symbol };
	if (tls_elf_read(fd, at, TLS_FUNCTIONS, &elf) < 0)
		return TLS_NOTHING;
	if (has(at, "SSL_read") && has(at, "SSL_write"))
		return TLS_OPENSSL;
	if (has(at, "gnutls_record_recv") && (has(at, "gnutls_record_send") || has(at, "gnutls_record_send2")))
		return TLS_GNUTLS;
	return inside ? kind_of_rest(fd, &elf) : TLS_NOTHING;
}

static bool is_probed_kind(enum tls_kind k)
{
	return k == TLS_OPENSSL || k == TLS_GNUTLS;
}

static struct tls_known *known_find(struct tls_look *l, const struct stat *st)
{
	for (size_t i = 0; i < l->count; i++) {
		struct tls_known *k = &l->known[i];

		if (k->dev == st->st_dev && k->inode == st->st_ino && k->changed.tv_sec == st->st_mtim.tv_sec && k->changed.tv_nsec == st->st_mtim.tv_nsec)
			return k;
	}
	return NULL;
}

static struct tls_known *known_add(struct tls_look *l, const struct stat *st, enum tls_kind kind)
{
	struct tls_known *k = NULL;

	for (size_t i = 0; i < l->count && !k; i++)
		if (!l->known[i].inode)
			k = &l->known[i];
	if (!k && l->count < TLS_FILES_MAX)
		k = &l->known[l->count++];
	if (k)
		*k = (struct tls_known){ .dev = st->st_dev, .inode = st->st_ino, .changed = st->st_mtim, .kind = kind };
	return k;
}

void tls_look_forget(struct tls_look *l, dev_t dev, ino_t inode)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->known[i].dev == dev && l->known[i].inode == inode)
			l->known[i].inode = 0;
}

/* By their names: a process maps hundreds of files. */
static bool is_named(struct span path, const struct span *names, size_t n)
{
	const char *slash = memrchr(path.p, '/', path.n);
	struct span base = { slash ? slash + 1 : path.p, slash ? path.n - (size_t)(slash + 1 - path.p) : path.n };

	for (size_t i = 0; i < n; i++)
		if (memmem(base.p, base.n, names[i].p, names[i].n))
			return true;
	return false;
}

/* Modules of Python that are servers, with a TLS of their own inside: gRPC's, granian's. */
static bool is_server_module(struct span path)
{
	static const struct span names[] = { { "cygrpc", 6 }, { "granian", 7 } };

	return is_named(path, names, ARRAY_SIZE(names));
}

/* Reads a file that is not known yet. NULL: there are too many. */
static struct tls_known *file_learn(struct tls_look *l, struct tls_seen *s, bool program, int *ret_new)
{
	struct tls_symbol at[TLS_FUNCTIONS];
	bool module = is_server_module(s->path);
	struct tls_known *k;

	s->kind = kind_of(s->fd, program || module, at);
	k = known_add(l, s->st, s->kind);
	if (!k || s->kind == TLS_NOTHING)
		return k;
	if (!is_probed_kind(s->kind)) {
		/* of a program it is not known yet whether it has a library beside it */
		if (!program) {
			k->told = true;
			l->tell(l->ctx, s, 0);
		}
		return k;
	}
	for (size_t i = 0; i < TLS_FUNCTIONS; i++)
		s->offset[i] = at[i].offset;
	k->error = l->probe(l->ctx, s);
	k->told = true;
	l->tell(l->ctx, s, k->error);
	*ret_new += k->error == 0;
	return k;
}

/* ---- processes -------------------------------------------------------------------------------------- */

static bool may_hold_tls(struct span path)
{
	static const struct span names[] = { { "libssl", 6 }, { "libgnutls", 9 }, { "libnode.so", 10 }, { "boringssl", 9 } };

	return is_named(path, names, ARRAY_SIZE(names)) || is_server_module(path);
}

struct maps {
	FILE *f;
	char exe[4096];
	size_t exe_len, read;
	char line[4096 + 256];
};

static int maps_open(int pid, struct maps *m)
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	n = readlink(name, m->exe, sizeof(m->exe));
	m->exe_len = n > 0 ? (size_t)n : 0;
	if (n > 10 && !memcmp(m->exe + n - 10, " (deleted)", 10))
		m->exe_len -= 10;
	m->read = 0;
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	m->f = fopen(name, "re");
	return m->f ? 0 : errno == ENOENT ? -ESRCH : -errno;
}

/* The next file that may hold TLS code; false: no more. */
static bool maps_next(struct maps *m, struct tls_mapping *ret, bool *ret_program)
{
	while (m->read < MAPS_MAX && fgets(m->line, sizeof(m->line), m->f)) {
		size_t n = strcspn(m->line, "\n");

		m->read += n;
		if (tls_parse_mapping((struct span){ m->line, n }, ret) != 1)
			continue;
		*ret_program = span_eq(ret->path, (struct span){ m->exe, m->exe_len });
		if (*ret_program || may_hold_tls(ret->path))
			return true;
	}
	return false;
}

int tls_look_pid(struct tls_look *l, int pid, int *ret_new)
{
	CLEANUP(freep) struct maps *m = malloc(sizeof(*m));
	struct tls_known *own = NULL; /* the program itself */
	struct tls_mapping at;
	bool program, covered = false;
	int r, unused = 0;

	if (!m)
		return -ENOMEM;
	r = maps_open(pid, m);
	if (r < 0)
		return r;
	while (maps_next(m, &at, &program)) {
		CLEANUP(closep) int fd = tls_open_mapping(pid, &at);
		struct tls_seen seen = { .pid = pid, .fd = fd, .mapping = &at, .path = at.path };
		struct tls_known *k;
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			continue; /* replaced meanwhile, or unreadable */
		seen.st = &st;
		k = known_find(l, &st);
		if (!k)
			k = file_learn(l, &seen, program, ret_new ? ret_new : &unused);
		if (k)
			covered |= is_probed_kind(k->kind) && !k->error;
		if (program)
			own = k;
	}
	fclose(m->f);
	/* A program that names OpenSSL and has it as a library is none that has it inside. */
	if (own && !covered && !own->told && own->kind != TLS_NOTHING) {
		own->told = true;
		l->tell(l->ctx, &(struct tls_seen){ .pid = pid, .kind = own->kind, .path = { m->exe, m->exe_len } }, 0);
	}
	return covered;
}
