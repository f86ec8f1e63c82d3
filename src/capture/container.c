#include "capture/container.h"

#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>

#define FILE_MAX (512u << 10) /* an OCI config has some 20 KB */

static void text_keep(char *out, size_t cap, const char *s)
{
	size_t n = 0;

	for (; s && *s && n + 1 < cap; s++)
		out[n++] = isalnum((unsigned char)*s) || strchr("._-:/@+", *s) ? *s : '?';
	out[n] = '\0';
}

/* A runtime's file of one container lies between these. */
struct place {
	const char *before, *after;
};

static json_t *file_load(const char *root, const struct place *at, const char *id)
{
	CLEANUP(closep) int fd = -1;
	CLEANUP(freep) char *text = NULL, *path = NULL;
	size_t n = 0;
	ssize_t r;

	if (asprintf(&path, "%s%s%s%s", root ? root : "", at->before, id, at->after) < 0) {
		path = NULL;
		return NULL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	text = fd < 0 ? NULL : malloc(FILE_MAX);
	if (!text)
		return NULL;
	while (n < FILE_MAX && (r = read(fd, text + n, FILE_MAX - n)) > 0)
		n += (size_t)r;
	return n == FILE_MAX ? NULL : json_loadb(text, n, 0, NULL);
}

static const char *member(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* Docker's own: the name that `docker ps` shows. */
static bool docker_facts(const char *root, const char *id, struct container_facts *f)
{
	static const struct place place = { "/var/lib/docker/containers/", "/config.v2.json" };
	json_t *o = file_load(root, &place, id);
	const json_t *config = json_object_get(o, "Config");
	const char *name = member(o, "Name");

	text_keep(f->name, sizeof(f->name), name && *name == '/' ? name + 1 : name);
	text_keep(f->image, sizeof(f->image), member(config, "Image"));
	json_decref(o);
	return *f->name;
}

static const char *either(const json_t *o, const char *a, const char *b)
{
	const char *v = member(o, a);

	return v ? v : member(o, b);
}

/* Kubernetes: the annotations that containerd and CRI-O write into a container's OCI configuration. */
static bool pod_facts(const json_t *oci, struct container_facts *f)
{
	const json_t *notes = json_object_get(oci, "annotations");
	const char *space = either(notes, "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace");
	const char *pod = either(notes, "io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name");
	const char *name = either(notes, "io.kubernetes.cri.container-name", "io.kubernetes.container.name");
	char workload[254]; /* a pod's name is a DNS name */

	text_keep(f->image, sizeof(f->image), either(notes, "io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"));
	if (!pod)
		return false;
	text_keep(workload, sizeof(workload), pod);
	procfs_pod_workload(workload);
	snprintf(f->name, sizeof(f->name), "%.20s%s%.38s%s%.18s", space ? space : "", space ? "/" : "", workload, name ? "/" : "", name ? name : "");
	text_keep(f->name, sizeof(f->name), f->name);
	return true;
}

static bool oci_facts(const char *root, const char *id, struct container_facts *f)
{
	static const struct place places[] = {
		{ "/run/containerd/io.containerd.runtime.v2.task/k8s.io/", "/config.json" },
		{ "/run/containers/storage/overlay-containers/", "/userdata/config.json" },
		{ "/var/lib/containers/storage/overlay-containers/", "/userdata/config.json" },
	};
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(places) && !found; i++) {
		json_t *o = file_load(root, &places[i], id);

		found = pod_facts(o, f);
		json_decref(o);
	}
	return found;
}

/* conmon ... -n NAME ... */
static bool conmon_facts(struct span cmdline, struct container_facts *f)
{
	bool next = false;

	while (cmdline.n) {
		const char *end = memchr(cmdline.p, '\0', cmdline.n);
		struct span arg = { cmdline.p, end ? (size_t)(end - cmdline.p) : cmdline.n };
		char name[PROCFS_NAME_MAX];

		if (next && arg.n) {
			snprintf(name, sizeof(name), "%.*s", (int)MIN(arg.n, sizeof(name) - 1), arg.p);
			text_keep(f->name, sizeof(f->name), name);
			return true;
		}
		next = span_eq(arg, SPAN("-n")) || span_eq(arg, SPAN("--name"));
		cmdline.p += MIN(cmdline.n, arg.n + 1);
		cmdline.n -= MIN(cmdline.n, arg.n + 1);
	}
	return false;
}

bool container_facts(const char *root, const struct procfs_workload *w, struct span conmon, struct container_facts *ret)
{
	struct container_facts f = { 0 };

	if (!w->container[0])
		return false;
	if (!strcmp(w->runtime, "lxc")) {
		snprintf(f.name, sizeof(f.name), "%s", w->container);
	} else if (w->pod[0]) {
		oci_facts(root, w->container, &f);
	} else if (!docker_facts(root, w->container, &f)) {
		conmon_facts(conmon, &f);
	}
	if (!*f.name && !*f.image)
		return false;
	*ret = f;
	return true;
}
