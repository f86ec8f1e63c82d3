#include "cmd/check_tls.h"

#include "capture/tls_look.h"

#include <ctype.h>

struct looking {
	struct check_tls *to;
	struct tls_look look; /* anew for each process: what several share is told of each */
};

static int no_probe(void *ctx, const struct tls_seen *s)
{
	(void)ctx, (void)s;
	return 0;
}

static void code_add(void *ctx, const struct tls_seen *s, int error)
{
	struct check_tls *t = ((struct looking *)ctx)->to;
	struct check_tls_code *c;
	size_t n = MIN(s->path.n, sizeof(c->path) - 1);

	(void)error;
	if (t->count == CHECK_TLS_MAX) {
		t->cut++;
		return;
	}
	c = &t->code[t->count++];
	*c = (struct check_tls_code){ .pid = s->pid, .kind = s->kind };
	for (size_t i = 0; i < n; i++)
		c->path[i] = (char)(isprint((unsigned char)s->path.p[i]) ? s->path.p[i] : '?');
}

static bool seen_before(const struct discover_result *d, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (d->port[i].pid == d->port[at].pid)
			return true;
	return false;
}

int check_tls_look(const struct discover_result *d, struct check_tls *ret)
{
	CLEANUP(freep) struct looking *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	memset(ret, 0, sizeof(*ret));
	l->to = ret;
	for (size_t i = 0; i < d->count; i++) {
		int r;

		if (d->port[i].pid <= 0 || seen_before(d, i))
			continue;
		memset(&l->look, 0, sizeof(l->look));
		l->look.probe = no_probe;
		l->look.tell = code_add;
		l->look.ctx = l;
		r = tls_look_pid(&l->look, d->port[i].pid, NULL);
		if (r == -ENOMEM)
			return r;
		ret->closed += r < 0 && r != -ESRCH;
	}
	return 0;
}

void check_tls_print(const struct check_tls *t, int pid)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct check_tls_code *c = &t->code[i];

		if (c->pid == pid && *tls_kind_lost(c->kind))
			printf("%-8s %-8s -> %s: %s; %s\n", "", "", c->path, tls_kind_name(c->kind), tls_kind_lost(c->kind));
	}
}

void check_tls_write(struct str *out, const struct check_tls *t, int pid)
{
	json_key(out, "tls");
	json_begin(out, '[');
	for (size_t i = 0; i < t->count; i++) {
		const struct check_tls_code *c = &t->code[i];

		if (c->pid != pid)
			continue;
		json_begin(out, '{');
		json_kstring(out, "file", span_of(c->path));
		json_kstring(out, "kind", span_of(tls_kind_name(c->kind)));
		json_kbool(out, "metered", !*tls_kind_lost(c->kind));
		json_kstring(out, "lost", span_of(tls_kind_lost(c->kind)));
		json_end(out, '}');
	}
	json_end(out, ']');
}
