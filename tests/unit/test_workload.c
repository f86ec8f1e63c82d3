/* Whose process it is: control group paths as runtimes and systemd write them, the runtimes' own files, names in records' labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "capture/container.h"
#include "decode/record.h"
#include "decode/workloads.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID2 "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define UID "8f2c1d3e-4b5a-6978-8796-a5b4c3d2e1f0"
#define UID_ "8f2c1d3e_4b5a_6978_8796_a5b4c3d2e1f0"

static void control_groups(void **state)
{
	static const struct {
		const char *text, *runtime, *container, *pod, *unit;
	} cases[] = {
		/* nothing */
		{ "", "", "", "", "" },
		{ "0::/\n", "", "", "", "" },
		{ "0::/user.slice/user-1000.slice/session-3.scope\n", "", "", "", "" },
		{ "0::/init.scope", "", "", "", "" },
		/* systemd */
		{ "0::/system.slice/vllm.service\n", "", "", "", "vllm.service" },
		{ "0::/system.slice/system-vllm.slice/vllm@7b.service\n", "", "", "", "vllm@7b.service" },
		{ "0::/system.slice/ollama.service/payload\n", "", "", "", "ollama.service" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/app.slice/llama.service\n", "", "", "", "llama.service" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/session.slice\n", "", "", "", "" },
		{ "0::/system.slice/run-r0123456789abcdef.service\n", "", "", "", "" },
		{ "0::/system.slice/run-u42.service\n", "", "", "", "" },
		{ "0::/system.slice/run-llama.service\n", "", "", "", "run-llama.service" },
		{ "0::/system.slice/my\\x2dllm.service\n", "", "", "", "my\\x2dllm.service" },
		/* docker: systemd driver, cgroupfs driver, version 1 */
		{ "0::/system.slice/docker-" ID ".scope\n", "docker", ID, "", "" },
		{ "0::/docker/" ID "\n", "docker", ID, "", "" },
		{ "12:pids:/docker/" ID "\n1:name=systemd:/docker/" ID "\n0::/system.slice/containerd.service\n", "docker", ID, "", "" },
		{ "0::/system.slice:docker:" ID "\n", "docker", ID, "", "" },
		{ "0::/system.slice/docker-" ID ".scope/init.scope\n", "docker", ID, "", "" },
		{ "0::/system.slice/docker-" ID ".scope/system.slice/inner.service\n", "docker", ID, "", "" },
		{ "0::/../../docker/" ID "\n", "docker", ID, "", "" },
		/* the innermost */
		{ "0::/docker/" ID "/docker/" ID2 "\n", "docker", ID2, "", "" },
		/* podman: root, rootless, cgroupfs; its monitor is no container */
		{ "0::/machine.slice/libpod-" ID ".scope/container\n", "podman", ID, "", "" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope\n", "podman", ID, "", "" },
		{ "0::/libpod_parent/libpod-" ID "\n", "podman", ID, "", "" },
		{ "0::/machine.slice/libpod-conmon-" ID ".scope\n", "", "", "", "" },
		/* containerd alone, nerdctl */
		{ "0::/default/" ID "\n", "containerd", ID, "", "" },
		{ "0::/system.slice/nerdctl-" ID ".scope\n", "containerd", ID, "", "" },
		/* Kubernetes: systemd driver with containerd, CRI-O, docker; guaranteed pods; cgroupfs driver; static pods; version 1 */
		{ "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", "containerd", ID, UID, "" },
		{ "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-" ID ".scope\n", "cri-o", ID, UID, "" },
		{ "0::/kubepods.slice/kubepods-pod" UID_ ".slice/docker-" ID ".scope\n", "docker", ID, UID, "" },
		{ "0::/kubepods.slice/kubepods-pod" UID_ ".slice/crio-conmon-" ID ".scope\n", "", "", UID, "" },
		{ "0::/kubepods/burstable/pod" UID "/" ID "\n", "", ID, UID, "" },
		{ "0::/kubepods/pod" UID "/" ID "\n", "", ID, UID, "" },
		{ "0::/kubepods/burstable/pod0123456789abcdef0123456789abcdef/" ID "\n", "", ID, "0123456789abcdef0123456789abcdef", "" },
		{ "11:memory:/kubepods/besteffort/pod" UID "/" ID "\n10:cpu:/\n", "", ID, UID, "" },
		{ "0::/system.slice/containerd.service/kubepods-burstable-pod" UID_ ".slice:cri-containerd:" ID "\n", "containerd", ID, UID, "" },
		{ "0::/system.slice/k3s.service\n", "", "", "", "k3s.service" },
		/* lxc */
		{ "0::/lxc.payload.gpu-box/system.slice/vllm.service\n", "lxc", "gpu-box", "", "" },
		/* hostile: no id, no line, names with blanks and escapes */
		{ "0::/docker/0123\n", "", "", "", "" },
		{ "0::/docker-" ID "0.scope\n", "", "", "", "" },
		{ "0::/docker-0123456789abcdef0123456789abcdeg0123456789abcdef0123456789abcdef.scope\n", "", "", "", "" },
		{ "0:/x.service\n", "", "", "", "" },
		{ ":::::/a b\x1b[31m=.service\n", "", "", "", "a?b??31m?.service" },
		{ "0::/.service\n", "", "", "", "" },
		{ "0::/kubepods/pod\n0::/pod-\n0::-pod.slice\n0::/:\n0::/::\n", "", "", "", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = strlen(cases[i].text);
		char *copy = malloc(n ? n : 1); /* exact size: a read beyond it is seen */
		struct procfs_workload w;

		memcpy(copy, cases[i].text, n);
		procfs_parse_cgroup((struct span){ copy, n }, &w);
		free(copy);
		if (strcmp(w.runtime, cases[i].runtime) || strcmp(w.container, cases[i].container) || strcmp(w.pod, cases[i].pod) || strcmp(w.unit, cases[i].unit))
			fail_msg("%s: runtime '%s' container '%s' pod '%s' unit '%s'", cases[i].text, w.runtime, w.container, w.pod, w.unit);
	}
}

static void pod_names(void **state)
{
	static const char *const cases[][2] = {
		{ "llm-7d9f8b6c5-x2x4z", "llm" }, { "vllm-llama-70b-6b4d9c7f5d-9qk2m", "vllm-llama-70b" }, { "llm-0", "llm" }, { "llm-12", "llm" },
		{ "exporter-x2x4z", "exporter" }, { "llm", "llm" }, { "my-model", "my-model" }, { "llm-abcde", "llm-abcde" /* vowels: chosen by people */ },
		{ "", "" }, { "-", "-" }, { "-0", "-0" }, { "a-", "a-" }, { "llm-chat-x2x4z", "llm-chat" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s", cases[i][0]);
		procfs_pod_workload(name);
		assert_string_equal(name, cases[i][1]);
	}
}

/* ---- the runtimes' own files ------------------------------------------------------------------------- */
static char root[64];

static void put(const char *path, const char *text)
{
	char full[512];
	int fd;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static int root_make(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/weir-root.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int root_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static struct container_facts facts(const char *cgroup, struct span conmon)
{
	struct container_facts f = { 0 };
	struct procfs_workload w;

	procfs_parse_cgroup(span_of(cgroup), &w);
	container_facts(root, &w, conmon, &f);
	return f;
}

static void container_names(void **state)
{
	static const char docker[] = "0::/docker/" ID, pod[] = "0::/kubepods/burstable/pod" UID "/" ID;
	struct container_facts f;

	(void)state;
	f = facts(docker, (struct span){ 0 });
	assert_string_equal(f.name, "");
	put("/var/lib/docker/containers/" ID "/config.v2.json", "{\"Name\":\"/chat-llm\",\"Config\":{\"Image\":\"vllm/vllm-openai:v0.9\",\"Env\":[\"TOKEN=x\"]}}");
	f = facts(docker, (struct span){ 0 });
	assert_string_equal(f.name, "chat-llm");
	assert_string_equal(f.image, "vllm/vllm-openai:v0.9");
	put("/run/containerd/io.containerd.runtime.v2.task/k8s.io/" ID "/config.json",
	    "{\"annotations\":{\"io.kubernetes.cri.sandbox-namespace\":\"prod\",\"io.kubernetes.cri.sandbox-name\":\"llm-7d9f8b6c5-x2x4z\","
	    "\"io.kubernetes.cri.container-name\":\"server\",\"io.kubernetes.cri.image-name\":\"reg/vllm:v1\"}}");
	f = facts(pod, (struct span){ 0 });
	assert_string_equal(f.name, "prod/llm/server");
	assert_string_equal(f.image, "reg/vllm:v1");
	f = facts("0::/machine.slice/libpod-" ID2 ".scope", (struct span){ "conmon\0-c\0" ID2 "\0-n\0my llm\0--exit", 6 + 3 + 65 + 3 + 8 + 6 });
	assert_string_equal(f.name, "my?llm");
	f = facts("0::/lxc.payload.box", (struct span){ 0 });
	assert_string_equal(f.name, "box");
	f = facts("0::/system.slice/vllm.service", SPAN("conmon\0-n\0x"));
	assert_string_equal(f.name, "");
}

static void container_files_hostile(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "null", "{\"Name\":5}", "{\"Name\":\"\"}", "{\"Config\":\"x\"}", "{\"Name\":\"/\\u0000\"}", "\xff\xfe",
	};
	static char big[700000];
	struct container_facts f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put("/var/lib/docker/containers/" ID2 "/config.v2.json", bad[i]);
		f = facts("0::/docker/" ID2, (struct span){ 0 });
		assert_string_equal(f.name, "");
	}
	put("/var/lib/docker/containers/" ID2 "/config.v2.json", "{\"Name\":\"/a b=\\u001b[1m\\u00e9/../x\"}");
	f = facts("0::/docker/" ID2, (struct span){ 0 });
	assert_string_equal(f.name, "a?b??" "?1m?" "?/../x");
	memset(big, ' ', sizeof(big) - 1);
	put("/var/lib/docker/containers/" ID2 "/config.v2.json", big);
	f = facts("0::/docker/" ID2, (struct span){ 0 });
	assert_string_equal(f.name, "");
}

/* ---- names in labels ---------------------------------------------------------------------------------- */
static void names_by_port(void **state)
{
	struct workloads *w = workloads_new();
	const char *old;

	(void)state;
	assert_non_null(w);
	assert_null(workloads_of(w, 1, 8000));
	workloads_set(w, 1, 8000, SPAN("unit=vllm.service"));
	workloads_set(w, 2, 8000, SPAN("container=a"));
	assert_string_equal(workloads_of(w, 1, 8000), "unit=vllm.service");
	assert_string_equal(workloads_of(w, 2, 8000), "container=a");
	assert_null(workloads_of(w, 3, 8000));
	assert_null(workloads_of(w, 1, 0));
	old = workloads_of(w, 2, 8000);
	workloads_set(w, 2, 8000, SPAN("container=b"));
	assert_string_equal(old, "container=a"); /* whoever holds it goes on holding it */
	assert_string_equal(workloads_of(w, 2, 8000), "container=b");
	workloads_set(w, 2, 8000, (struct span){ 0 });
	assert_null(workloads_of(w, 2, 8000));
	workloads_set(w, 2, 8000, SPAN("no equals sign"));
	assert_null(workloads_of(w, 2, 8000));
	workloads_set(w, 2, 8000, SPAN("unit=a b\n"));
	assert_string_equal(workloads_of(w, 2, 8000), "unit=a?b?");
	workloads_set(w, 2, 0, SPAN("unit=x"));
	for (uint32_t i = 0; i < 3 * WORKLOADS_MAX; i++) {
		char name[32];

		snprintf(name, sizeof(name), "unit=n%u", i);
		workloads_set(w, 100 + i, 9000, span_of(name));
	}
	assert_string_equal(workloads_of(w, 1, 8000), "unit=vllm.service");
	assert_null(workloads_of(w, 100 + 3 * WORKLOADS_MAX, 9000));
	assert_null(workloads_free(w));
}

static void server_entity(void **state)
{
	static const char *const cases[][2] = {
		{ "127.0.0.1:8000", "127.0.0.1:8000" },
		{ "127.0.0.1:8000 vllm/0.9", "127.0.0.1:8000" }, /* an upgrade makes no second one */
		{ "127.0.0.1:8000 vllm/0.9 unit=vllm.service", "unit=vllm.service" },
		{ "[fd00::1]:8000 container=llm", "container=llm" },
		{ "10.0.0.7:9000 container=llm", "container=llm" },
		{ "gpu box 7", "gpu box 7" }, { "a=b c", "a=b c" }, { "box:x unit=y", "box:x unit=y" }, { ":80 unit=y", "unit=y" },
		{ "8000 x", "8000 x" }, { "h:1  unit=", "unit=" }, { "h:1 ", "h:1" },
	};
	struct record r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct span e;

		record_init(&r);
		record_set_text(&r, F_SERVER, span_of(cases[i][0]));
		e = record_server_entity(&r);
		if (!span_eq(e, span_of(cases[i][1])))
			fail_msg("%s: %.*s", cases[i][0], (int)e.n, e.p);
	}
	record_init(&r);
	assert_int_equal(record_server_entity(&r).n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_groups), cmocka_unit_test(pod_names),	   cmocka_unit_test(container_names), cmocka_unit_test(container_files_hostile),
		cmocka_unit_test(names_by_port),  cmocka_unit_test(server_entity),
	};

	return cmocka_run_group_tests(tests, root_make, root_remove);
}
