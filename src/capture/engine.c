#include "capture/engine.h"

#include "capture/tls_elf.h"
#include "capture/tls_find.h"
#include "capture/uprobe.h"
#include "engine.skel.h"
#include "weir/engine.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/stat.h>

#define PIDS_MAX 1024      /* processes of which it is known which port they serve; the workers of a few servers */
#define MAPS_MAX (1 << 20) /* bytes of one /proc/PID/maps */
#define SILENT_READS 600   /* about ten minutes: then a process is forgotten, in the kernel too; if it wakes it begins anew */

/* In which files. */
static const struct engine_kind {
	const char *name, *file; /* beginning of the file's base name */
} kinds[] = {
	{ "llama.cpp", "libllama" },
	{ "llama.cpp", "llama-server" },
	{ "Ollama", "ollama" }, /* its runner is the same file */
};

/*
 * Which function takes a batch, and where its number of tokens stands. The first row counts whose functions the file all has: from the
 * version on that has llama_process(), servers call it instead of llama_decode(); its batch is opaque, the part of it that is computed at once is not.
 */
enum where { BATCH_VALUE, BATCH_SECOND };
static const struct engine_call {
	const char *symbol, *needs;
	enum where where;
} calls[] = {
	{ "_ZN13llama_context14process_ubatchERK12llama_ubatch14llm_graph_typeP22llama_memory_context_iR11ggml_status", "llama_process", BATCH_SECOND },
	{ "llama_decode", "llama_decode", BATCH_VALUE },
};

struct file {
	dev_t dev;
	ino_t inode;
	int link; /* -1: looked at, nothing to probe */
	uint16_t port;
	bool ports; /* several */
};

struct process {
	struct weir_engine_key key;
	struct weir_engine last;
	unsigned silent;
};

struct engine {
	void (*found)(void *ctx, const struct engine_found *f);
	void *ctx;
	struct engine_bpf *skel;
	struct file file[ENGINE_FILES_MAX];
	struct {
		uint32_t pid;
		uint16_t port;
	} pid[PIDS_MAX];
	struct process process[WEIR_ENGINE_PROCESSES];
	unsigned files, pids, processes;
	struct engine_counts counts;
};

/* ---- loading, probing ---------------------------------------------------------------------------------- */
static int load(struct engine_bpf **ret)
{
	struct engine_bpf *skel = engine_bpf__open();
	int r;

	if (!skel)
		return errno ? -errno : -ENOMEM;
	r = engine_bpf__load(skel);
	if (r < 0) {
		engine_bpf__destroy(skel);
		return r;
	}
	*ret = skel;
	return 0;
}

/* `cookie` says which file it was. */
static int probe_set(const struct engine *e, int file_fd, uint64_t offset, enum where where, uint64_t cookie)
{
	const struct bpf_program *program = where == BATCH_VALUE ? e->skel->progs.on_batch_value : e->skel->progs.on_batch_second;
	int type = uprobe_type();

	return type < 0 ? type : uprobe_link(type, bpf_program__fd(program), file_fd, offset, false, cookie);
}

int engine_works(void)
{
	struct engine_bpf *skel;
	int r = load(&skel);

	if (r < 0)
		return r;
	engine_bpf__destroy(skel);
	r = uprobe_type();
	return r < 0 ? r : 0;
}

static const struct engine_kind *kind_of(struct span path)
{
	const char *base = memrchr(path.p, '/', path.n);
	size_t n = base ? path.n - (size_t)(base + 1 - path.p) : 0;

	for (size_t i = 0; base && i < ARRAY_SIZE(kinds); i++)
		if (n >= strlen(kinds[i].file) && !memcmp(base + 1, kinds[i].file, strlen(kinds[i].file)))
			return &kinds[i];
	return NULL;
}

static struct file *file_of(struct engine *e, const struct stat *st)
{
	for (unsigned i = 0; i < e->files; i++)
		if (e->file[i].dev == st->st_dev && e->file[i].inode == st->st_ino)
			return &e->file[i];
	return NULL;
}

/* 1: probed; 0: it has none of the functions. */
static int file_probe(struct engine *e, struct file *f, int fd)
{
	struct tls_symbol symbol[2 * ARRAY_SIZE(calls)];
	struct tls_elf elf;
	size_t k;
	int r;

	for (k = 0; k < ARRAY_SIZE(calls); k++) {
		symbol[2 * k] = (struct tls_symbol){ .name = calls[k].symbol };
		symbol[2 * k + 1] = (struct tls_symbol){ .name = calls[k].needs };
	}
	r = tls_elf_read(fd, symbol, ARRAY_SIZE(symbol), &elf);
	for (k = 0; k < ARRAY_SIZE(calls) && !(symbol[2 * k].offset && symbol[2 * k + 1].offset); k++)
		;
	if (r < 0 || k == ARRAY_SIZE(calls))
		return r;
	if (!e->skel) {
		r = load(&e->skel);
		if (r < 0)
			return r;
	}
	r = probe_set(e, fd, symbol[2 * k].offset, calls[k].where, (uint64_t)(f - e->file));
	if (r < 0)
		return r;
	f->link = r;
	return 1;
}

/* One mapping of a process that serves `port`. 1: a probe was set. */
static int mapping_look(struct engine *e, int pid, uint16_t port, const struct tls_mapping *m)
{
	const struct engine_kind *k = kind_of(m->path);
	struct engine_found found = { .pid = pid, .port = port };
	CLEANUP(closep) int fd = -1;
	char path[256];
	struct stat st;
	struct file *f;
	int r;

	if (!k)
		return 0;
	fd = tls_open_mapping(pid, m);
	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	f = file_of(e, &st);
	if (f) {
		f->ports |= f->port != port;
		return 0;
	}
	if (e->files == ENGINE_FILES_MAX)
		return 0;
	f = &e->file[e->files++];
	*f = (struct file){ .dev = st.st_dev, .inode = st.st_ino, .link = -1, .port = port };
	r = file_probe(e, f, fd);
	if (r == 0)
		return 0;
	snprintf(path, sizeof(path), "%.*s", (int)MIN(m->path.n, sizeof(path) - 1), m->path.p);
	found.engine = k->name;
	found.path = path;
	found.error = MIN(r, 0);
	e->counts.files += r > 0;
	e->found(e->ctx, &found);
	return r > 0;
}

/* ---- whose port ----------------------------------------------------------------------------------------- */
static unsigned pid_find(const struct engine *e, uint32_t pid, uint16_t port)
{
	unsigned i = 0;

	while (i < e->pids && (e->pid[i].pid != pid || e->pid[i].port != port))
		i++;
	return i;
}

void engine_own(struct engine *e, uint32_t pid, uint16_t port)
{
	if (!e || e->pids == PIDS_MAX || pid_find(e, pid, port) < e->pids)
		return;
	e->pid[e->pids].pid = pid;
	e->pid[e->pids++].port = port;
}

void engine_disown(struct engine *e, uint32_t pid, uint16_t port)
{
	unsigned i = e ? pid_find(e, pid, port) : 0;

	if (e && i < e->pids)
		e->pid[i] = e->pid[--e->pids];
}

/* ---- who listens --------------------------------------------------------------------------------------- */
struct scan {
	struct engine *e;
	uint16_t port;
	int probed;
};

static bool wanted(void *ctx, uint16_t port)
{
	return port == ((struct scan *)ctx)->port;
}

static void listener(void *ctx, int pid)
{
	CLEANUP(freep) char *text = malloc(MAPS_MAX);
	struct scan *s = ctx;
	CLEANUP(closep) int fd = -1;
	struct span rest, line;
	struct tls_mapping m;
	char name[32];
	size_t n = 0;
	ssize_t got;

	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !text)
		return;
	while (n < MAPS_MAX && (got = read(fd, text + n, MAPS_MAX - n)) > 0)
		n += (size_t)got;
	rest = (struct span){ text, n };
	while (rest.n) {
		const char *end = memchr(rest.p, '\n', rest.n);

		if (!end)
			break;
		line = (struct span){ rest.p, (size_t)(end - rest.p) };
		rest = (struct span){ end + 1, rest.n - line.n - 1 };
		if (tls_parse_mapping(line, &m) > 0)
			s->probed += mapping_look(s->e, pid, s->port, &m);
	}
	engine_own(s->e, (uint32_t)pid, s->port);
}

int engine_scan(struct engine *e, uint16_t port)
{
	struct scan s = { .e = e, .port = port };
	int r = tls_find_listeners(wanted, listener, &s);

	return r < 0 ? r : s.probed;
}

/* ---- counts -------------------------------------------------------------------------------------------- */
static uint16_t port_of_pid(const struct engine *e, uint32_t pid)
{
	for (unsigned i = 0; i < e->pids; i++)
		if (e->pid[i].pid == pid)
			return e->pid[i].port;
	return 0;
}

/* Process 1 may hold sockets for others, and is everybody's parent. */
static uint16_t port_of(const struct engine *e, const struct weir_engine_key *key, uint32_t parent)
{
	uint16_t port = port_of_pid(e, key->tgid);

	if (!port && parent > 1)
		port = port_of_pid(e, parent);
	if (port)
		return port;
	if (key->file < e->files && !e->file[key->file].ports)
		return e->file[key->file].port;
	return 0;
}

static struct process *process_of(struct engine *e, const struct weir_engine_key *key)
{
	for (unsigned i = 0; i < e->processes; i++)
		if (!memcmp(&e->process[i].key, key, sizeof(*key)))
			return &e->process[i];
	if (e->processes == WEIR_ENGINE_PROCESSES)
		return NULL;
	e->process[e->processes] = (struct process){ .key = *key };
	return &e->process[e->processes++];
}

static void losses_read(struct engine *e)
{
	CLEANUP(freep) uint64_t *each = NULL;
	int cpus = libbpf_num_possible_cpus();
	uint64_t *into[WEIR_ENGINE_STAT_COUNT] = { [WEIR_ENGINE_FULL] = &e->counts.full, [WEIR_ENGINE_UNREADABLE] = &e->counts.unreadable };

	each = cpus > 0 ? calloc((size_t)cpus, sizeof(*each)) : NULL;
	for (uint32_t i = 0; each && i < WEIR_ENGINE_STAT_COUNT; i++) {
		uint64_t sum = 0;

		if (bpf_map_lookup_elem(bpf_map__fd(e->skel->maps.weir_engine_st), &i, each) < 0)
			continue;
		for (int k = 0; k < cpus; k++)
			sum += each[k];
		*into[i] = sum;
	}
}

int engine_read(struct engine *e, void (*tell)(void *ctx, uint16_t port, uint64_t tokens), void *ctx)
{
	struct weir_engine_key key, *last = NULL;
	int fd = e->skel ? bpf_map__fd(e->skel->maps.weir_engines) : -1;

	if (fd < 0)
		return 0;
	/* a key that vanishes meanwhile begins the walk anew, so it is bounded apart */
	for (unsigned n = 0; n < WEIR_ENGINE_PROCESSES && bpf_map_get_next_key(fd, last, &key) == 0; n++, last = &key) {
		struct weir_engine now;
		struct process *p;
		uint16_t port;

		if (bpf_map_lookup_elem(fd, &key, &now) < 0 || !(p = process_of(e, &key)))
			continue;
		port = port_of(e, &key, now.parent);
		if (now.tokens > p->last.tokens) {
			e->counts.tokens += now.tokens - p->last.tokens;
			if (port)
				tell(ctx, port, now.tokens - p->last.tokens);
			else
				e->counts.unattributed += now.tokens - p->last.tokens;
		}
		p->silent = now.calls == p->last.calls ? p->silent + 1 : 0;
		e->counts.calls += now.calls - p->last.calls;
		p->last = now;
	}
	for (unsigned i = 0; i < e->processes;) {
		if (e->process[i].silent < SILENT_READS) {
			i++;
			continue;
		}
		bpf_map_delete_elem(fd, &e->process[i].key);
		e->process[i] = e->process[--e->processes];
	}
	losses_read(e);
	return 0;
}

void engine_counts(const struct engine *e, struct engine_counts *ret)
{
	*ret = e->counts;
	ret->processes = e->processes;
}

/* ---- life ---------------------------------------------------------------------------------------------- */
int engine_open(void (*found)(void *ctx, const struct engine_found *f), void *ctx, struct engine **ret)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->found = found;
	e->ctx = ctx;
	*ret = e;
	return 0;
}

struct engine *engine_free(struct engine *e)
{
	if (!e)
		return NULL;
	for (unsigned i = 0; i < e->files; i++)
		if (e->file[i].link >= 0)
			close(e->file[i].link);
	if (e->skel)
		engine_bpf__destroy(e->skel);
	free(e);
	return NULL;
}
