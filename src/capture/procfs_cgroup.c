/* procfs_cgroup.c - control group paths, as the container runtimes and systemd write them. */
#include "capture/procfs.h"

#include <ctype.h>

#define CONTAINER_ID 64

static bool all_hex(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)p[i]))
			return false;
	return n > 0;
}

/* Whoever may make a control group names it: nothing but plain characters goes on. */
static void keep(char *out, size_t cap, struct span s)
{
	size_t n = MIN(s.n, cap - 1);

	for (size_t i = 0; i < n; i++)
		out[i] = isalnum((unsigned char)s.p[i]) || strchr("._-@:+\\", s.p[i] ? s.p[i] : '?') ? s.p[i] : '?';
	out[n] = '\0';
}

static bool starts(struct span s, const char *prefix, struct span *ret_rest)
{
	size_t n = strlen(prefix);

	if (s.n < n || memcmp(s.p, prefix, n) != 0)
		return false;
	*ret_rest = (struct span){ s.p + n, s.n - n };
	return true;
}

static bool ends(struct span s, const char *suffix, struct span *ret_rest)
{
	size_t n = strlen(suffix);

	if (s.n < n || memcmp(s.p + s.n - n, suffix, n) != 0)
		return false;
	*ret_rest = (struct span){ s.p, s.n - n };
	return true;
}

/* "…-pod1234_…_56.slice" (systemd driver), "pod1234-…-56" (cgroupfs). Static pods have 32 digits and no dashes. */
static bool pod_take(struct span c, struct procfs_workload *w)
{
	struct span s = c;
	const char *p;

	if (ends(c, ".slice", &s)) {
		p = memmem(s.p, s.n, "-pod", 4);
		if (!p)
			return false;
		s = (struct span){ p + 4, s.n - (size_t)(p + 4 - s.p) };
	} else if (!starts(c, "pod", &s)) {
		return false;
	}
	if (s.n != 36 && s.n != 32)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		bool dash = s.n == 36 && (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? s.p[i] != '-' && s.p[i] != '_' : !isxdigit((unsigned char)s.p[i]))
			return false;
	}
	keep(w->pod, sizeof(w->pod), s);
	for (char *d = w->pod; *d; d++)
		if (*d == '_')
			*d = '-';
	return true;
}

static void container_set(struct procfs_workload *w, const char *runtime, struct span id)
{
	snprintf(w->runtime, sizeof(w->runtime), "%s", runtime);
	keep(w->container, sizeof(w->container), id);
}

/* What stands before the id says whose it is; where the cgroupfs driver is used, so does the component before. */
static const struct runtime {
	const char *prefix, *parent, *name;
} runtimes[] = {
	{ "docker-", "docker", "docker" },
	{ "cri-containerd-", "cri-containerd", "containerd" },
	{ "nerdctl-", "default", "containerd" },
	{ "crio-", "crio", "cri-o" },
	{ "libpod-", "libpod_parent", "podman" },
	{ "buildkit-", "buildkit", "buildkit" },
};

static bool container_take(struct span c, struct span before, struct procfs_workload *w)
{
	struct span s = c, rest;
	const char *colon;

	if (starts(c, "lxc.payload.", &rest) && rest.n) {
		container_set(w, "lxc", rest);
		return true;
	}
	if (ends(c, ".scope", &rest))
		s = rest;
	/* runc's own way to say SLICE:PREFIX:ID, where it is no systemd that reads it */
	colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
	if (colon) {
		const char *slice = memchr(s.p, ':', s.n);

		pod_take((struct span){ s.p, (size_t)(slice - s.p) }, w);
		before = (struct span){ s.p, (size_t)(colon - s.p) };
		s = (struct span){ colon + 1, s.n - before.n - 1 };
		colon = before.n ? memrchr(before.p, ':', before.n) : NULL;
		if (colon)
			before = (struct span){ colon + 1, before.n - (size_t)(colon + 1 - before.p) };
	}
	for (const struct runtime *r = runtimes; r < runtimes + ARRAY_SIZE(runtimes); r++)
		if (starts(s, r->prefix, &rest) && rest.n == CONTAINER_ID && all_hex(rest.p, rest.n)) {
			container_set(w, r->name, rest);
			return true;
		}
	if (s.n != CONTAINER_ID || !all_hex(s.p, s.n))
		return false;
	container_set(w, "", s);
	for (const struct runtime *r = runtimes; r < runtimes + ARRAY_SIZE(runtimes); r++)
		if (span_eq(before, span_of(r->parent)))
			container_set(w, r->name, s);
	return true;
}

/* run-r0123abcd.service and run-u12.service are systemd-run's: another name each time. */
static bool is_transient(struct span name)
{
	struct span rest;

	return (starts(name, "run-r", &rest) || starts(name, "run-u", &rest) || starts(name, "run-p", &rest)) && all_hex(rest.p, MIN(rest.n, (size_t)2));
}

static bool unit_take(struct span c, struct procfs_workload *w)
{
	struct span name;

	if (!ends(c, ".service", &name) || !name.n || is_transient(name))
		return false;
	if (starts(c, "user@", &name)) /* what runs below it has a name of its own */
		return false;
	keep(w->unit, sizeof(w->unit), c);
	return true;
}

static void path_take(struct span path, struct procfs_workload *w)
{
	struct span before = { 0 };

	while (path.n) {
		const char *slash = memchr(path.p, '/', path.n);
		struct span c = { path.p, slash ? (size_t)(slash - path.p) : path.n };

		path.p += c.n + (slash ? 1 : 0);
		path.n -= c.n + (slash ? 1 : 0);
		if (!c.n)
			continue;
		/* The runtime's own unit is not the container's name; a unit inside of a container has no meaning outside. */
		if (container_take(c, before, w))
			w->unit[0] = '\0';
		else if (!pod_take(c, w) && !w->container[0])
			unit_take(c, w);
		before = c;
	}
}

void procfs_parse_cgroup(struct span text, struct procfs_workload *ret)
{
	struct procfs_workload w = { 0 };
	struct span line;

	while (procfs_next_line(&text, &line)) {
		const char *first = line.n ? memchr(line.p, ':', line.n) : NULL, *second;
		struct procfs_workload one = { 0 };

		second = first ? memchr(first + 1, ':', line.n - (size_t)(first + 1 - line.p)) : NULL;
		if (!second)
			continue;
		path_take((struct span){ second + 1, line.n - (size_t)(second + 1 - line.p) }, &one);
		/* Hierarchies of version 1 may each have another path: whichever knows the container, then the unit. */
		if ((one.container[0] && !w.container[0]) || (!w.container[0] && one.unit[0] && !w.unit[0]) || (one.pod[0] && !w.pod[0]))
			w = one;
	}
	*ret = w;
}

/* Letters and digits of generated names: no vowels, none that look alike. */
static bool generated(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!p[i] || !strchr("bcdfghjklmnpqrstvwxz0123456789", p[i]))
			return false;
	return true;
}

void procfs_pod_workload(char *name)
{
	char *dash = strrchr(name, '-'), *end;

	if (!dash || dash == name)
		return;
	if (dash[1] && strspn(dash + 1, "0123456789") == strlen(dash + 1)) {
		*dash = '\0'; /* StatefulSet */
		return;
	}
	if (strlen(dash + 1) != 5 || !generated(dash + 1, 5))
		return;
	*dash = '\0';
	end = strrchr(name, '-');
	/* Deployment: its ReplicaSet's hash before that */
	if (end && end != name && strlen(end + 1) >= 6 && strlen(end + 1) <= 10 && generated(end + 1, strlen(end + 1)) && strpbrk(end + 1, "0123456789"))
		*end = '\0';
}
