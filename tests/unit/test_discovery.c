/* Discovery: lines of /proc with hostile bytes in them, the table of known servers, scans of a /proc made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "capture/cgroup.h"
#include "capture/discover.h"
#include "capture/hops_past.h"
#include "capture/procfs.h"

/* ---- listening sockets ----------------------------------------------------------------------------- */
#define REST "00000000:00000000 00:00000000 00000000     0        0 "

static void tcp_lines(void **state)
{
	struct procfs_listen l;
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, 127, 0, 0, 1 };
	static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };

	(void)state;
	assert_int_equal(procfs_parse_tcp(SPAN("   0: 0100007F:1F90 00000000:0000 0A " REST "4711 1 0 100 0 0 10 0"), &l), 1);
	assert_int_equal(l.port, 8080);
	assert_int_equal(l.inode, 4711);
	assert_memory_equal(l.addr, v4, 16);
	assert_int_equal(procfs_parse_tcp(SPAN("  17: B80D0120000000000000000001000000:FFFF 00000000000000000000000000000000:0000 0A " REST "1"), &l), 1);
	assert_int_equal(l.port, 65535);
	assert_memory_equal(l.addr, v6, 16);
	/* established, and the heading */
	assert_int_equal(procfs_parse_tcp(SPAN("   0: 0100007F:1F90 0100007F:C350 01 " REST "4711"), &l), 0);
	assert_int_equal(procfs_parse_tcp(SPAN("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"), &l), 0);
}

static void tcp_lines_hostile(void **state)
{
	static const char *const bad[] = {
		"", " ", "0:", "0: 0100007F", "   0: 0100007F:1F90 00000000:0000 0A",
		"   0: 0100007F1F90 00000000:0000 0A " REST "4711",
		"   0: 0100007F:11F90 00000000:0000 0A " REST "4711",
		"   0: 0100007F:1F9g 00000000:0000 0A " REST "4711",
		"   0: 0100007:1F90 00000000:0000 0A " REST "4711",
		"   0: 0100007F00:1F90 00000000:0000 0A " REST "4711",
		"   0: 0100007F:1F90 00000000:0000 0A " REST "-1",
		"   0: 0100007F:1F90 00000000:0000 0A " REST "99999999999999999999",
		"   0: 0100007F:1F90 00000000:0000 100 " REST "4711",
		"   0: :1F90 00000000:0000 0A " REST "4711",
	};
	struct procfs_listen l = { .port = 7 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (procfs_parse_tcp(span_of(bad[i]), &l) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(l.port, 7); /* written on success only */
	/* port 0 does not listen */
	assert_int_equal(procfs_parse_tcp(SPAN("   0: 0100007F:0000 00000000:0000 0A " REST "4711"), &l), 0);
}

/* Every prefix of a good line: never read beyond its end (ASan), never a wrong port. */
static void tcp_line_cut(void **state)
{
	static const char line[] = "   0: 0100007F:1F90 00000000:0000 0A " REST "4711";
	struct procfs_listen l;

	(void)state;
	for (size_t n = 0; n < sizeof(line) - 1; n++) {
		char *copy = malloc(n ? n : 1);

		memcpy(copy, line, n);
		if (procfs_parse_tcp((struct span){ copy, n }, &l) == 1)
			assert_int_equal(l.port, 8080);
		free(copy);
	}
}

/* ---- mounts ---------------------------------------------------------------------------------------- */
static void mount_lines(void **state)
{
	static struct procfs_mount m;
	char line[3 * PROCFS_PATH_MAX];
	size_t n;

	(void)state;
	assert_int_equal(procfs_parse_mount(SPAN("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"), &m), 0);
	assert_string_equal(m.point, "/sys/fs/cgroup/unified");
	assert_string_equal(m.root, "/");
	assert_string_equal(m.fstype, "cgroup2");
	assert_int_equal(procfs_parse_mount(SPAN("41 31 0:38 /a\\040b /mnt/c\\134d\\012e rw shared:1 master:2 - cgroup2 x rw"), &m), 0);
	assert_string_equal(m.point, "/mnt/c\\d\ne");
	assert_string_equal(m.root, "/a b");
	/* not an escape: stays as it is */
	assert_int_equal(procfs_parse_mount(SPAN("1 2 3 / /a\\9b\\ rw - x y z"), &m), 0);
	assert_string_equal(m.point, "/a\\9b\\");
	assert_int_equal(procfs_parse_mount(SPAN("1 2 3 / /a\\000b rw - x y z"), &m), 0);
	assert_string_equal(m.point, "/a\\000b");

	assert_int_equal(procfs_parse_mount(SPAN("41 31 0:38 / /x rw shared:1"), &m), -EINVAL);
	assert_int_equal(procfs_parse_mount(SPAN("41 31 0:38 / "), &m), -EINVAL);
	assert_int_equal(procfs_parse_mount(SPAN("41 31 0:38 / /x rw -"), &m), -EINVAL);
	assert_int_equal(procfs_parse_mount(SPAN(""), &m), -EINVAL);
	n = (size_t)snprintf(line, sizeof(line), "1 2 3 / /");
	memset(line + n, 'a', PROCFS_PATH_MAX);
	strcpy(line + n + PROCFS_PATH_MAX, " rw - cgroup2 x rw");
	assert_int_equal(procfs_parse_mount(span_of(line), &m), -EINVAL);
}

static void cgroup_is_found(void **state)
{
	char dir[] = "/tmp/weir-mounts.XXXXXX", path[64];
	struct cgroup_mount m = { 0 };
	int fd = mkstemp(dir);
	static const char table[] = "junk\n1 2 3 / /nowhere rw - cgroup2 x rw\n1 2 3 /part /tmp rw - cgroup2 x rw\n\n9 9 9 / /tmp rw - tmpfs x rw\n";
	static const char none[] = "9 9 9 / /tmp rw - tmpfs x rw\n9 9 9 / /sys/fs/cgroup rw - cgroup x rw";

	(void)state;
	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(write(fd, table, sizeof(table) - 1), (int)sizeof(table) - 1);
	assert_int_equal(cgroup_find(dir, &m), 0);
	assert_string_equal(m.path, "/tmp"); /* one that is there goes before one that is not */
	assert_false(m.whole);
	free(m.path);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, none, sizeof(none) - 1, 0), (int)sizeof(none) - 1);
	m.path = NULL;
	assert_int_equal(cgroup_find(dir, &m), -ENOENT);
	assert_null(m.path);
	close(fd);
	unlink(dir);
	assert_int_equal(cgroup_find("/nowhere/at/all", &m), -ENOENT);
}

/* ---- small things ---------------------------------------------------------------------------------- */
static void stat_and_links(void **state)
{
	uint8_t addr[16];
	uint64_t inode, start = 0;
	int ppid = -1;

	(void)state;
	assert_int_equal(procfs_parse_ppid(SPAN("12 (a) b) 1 (\n) S 7 12 12 0 -1"), &ppid), 0);
	assert_int_equal(ppid, 7);
	assert_int_equal(procfs_parse_ppid(SPAN("12 (name"), &ppid), -EINVAL);
	assert_int_equal(procfs_parse_ppid(SPAN("12 (name) S"), &ppid), -EINVAL);
	assert_int_equal(procfs_parse_ppid(SPAN("12 (name) S -3 1"), &ppid), -EINVAL);
	assert_int_equal(procfs_parse_ppid(SPAN("12 (name) S 99999999999 1"), &ppid), -EINVAL);
	assert_int_equal(procfs_parse_ppid((struct span){ 0 }, &ppid), -EINVAL);

	assert_int_equal(procfs_parse_start(SPAN("12 (a) b) 1 (\n) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 9"), &start), 0);
	assert_int_equal(start, 4711);
	assert_int_equal(procfs_parse_start(SPAN("12 (x) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0"), &start), -EINVAL);
	assert_int_equal(procfs_parse_start(SPAN("12 (x) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 -1 1"), &start), -EINVAL);
	assert_int_equal(procfs_parse_start(SPAN("12 (x"), &start), -EINVAL);

	assert_int_equal(procfs_parse_link(SPAN("socket:[123]"), "socket", &inode), 0);
	assert_int_equal(inode, 123);
	assert_int_equal(procfs_parse_link(SPAN("net:[4026531840]"), "net", &inode), 0);
	assert_int_equal(procfs_parse_link(SPAN("socket:[]"), "socket", &inode), -EINVAL);
	assert_int_equal(procfs_parse_link(SPAN("socket:[12"), "socket", &inode), -EINVAL);
	assert_int_equal(procfs_parse_link(SPAN("socket:[1 2]"), "socket", &inode), -EINVAL);
	assert_int_equal(procfs_parse_link(SPAN("/tmp/socket:[1]"), "socket", &inode), -EINVAL);
	assert_int_equal(procfs_parse_link(SPAN("so"), "socket", &inode), -EINVAL);

	assert_int_equal(procfs_parse_inet6(SPAN("20010db8000000000000000000000001 02 40 00 80     eth0"), addr), 0);
	assert_int_equal(addr[0], 0x20);
	assert_int_equal(addr[15], 1);
	assert_int_equal(procfs_parse_inet6(SPAN("20010db800000000000000000000000 02"), addr), -EINVAL);
	assert_int_equal(procfs_parse_inet6(SPAN(""), addr), -EINVAL);
}

/* ---- who is a model server ------------------------------------------------------------------------- */
static void known_servers(void **state)
{
	static const struct {
		const char *exe, *cmdline; /* '|' stands for NUL */
		const char *name;	   /* NULL: not one */
		bool inner;
		unsigned port;
	} cases[] = {
		{ "/usr/bin/python3.11", "/opt/venv/bin/python|/opt/venv/bin/vllm|serve|m|--port|8001|", "vllm", false, 8001 },
		{ "/usr/bin/python3.11", "python3|-m|vllm.entrypoints.openai.api_server|--port=8002|", "vllm", false, 8002 },
		{ "/usr/bin/python3.11", "VLLM::EngineCore|", "vllm", true, 0 },
		{ "/usr/bin/python3.11", "VLLM::Worker_TP0|", "vllm", true, 0 },
		{ "/usr/bin/python3.11", "VLLM::APIServer_1|", "vllm", false, 0 },
		{ "/usr/bin/python3.11", "VLLM::DPCoordinator|", "vllm", true, 0 },
		{ "/usr/bin/python3.11", "ray::RayWorkerWrapper.execute_method|", "ray", true, 0 },
		{ "/usr/bin/python3.11", "ray::ServeReplica:llm:LLMServer|", "ray", true, 0 },
		{ "/usr/bin/python3.11", "ray::IDLE|", "ray", true, 0 },
		{ "/usr/bin/python3.11", "ray::ProxyActor|", "ray-serve", false, 0 },
		{ "/usr/bin/python3.11", "python3|-m|sglang.launch_server|--model-path|m|", "sglang", false, 0 },
		{ "/usr/bin/python3.11", "sglang::scheduler_TP0|", "sglang", true, 0 },
		{ "/usr/bin/python3.11", "sglang::detokenizer|", "sglang", true, 0 },
		{ "/usr/bin/python3.11", "sglang::data_parallel_controller|", "sglang", true, 0 },
		{ "/usr/bin/python3.11", "sglang::http_server|", "sglang", false, 0 },
		{ "/usr/bin/python3.11", "python3|-m|sglang_router.launch_router|--port|30000|", "sglang", false, 30000 },
		{ "/usr/local/bin/text-generation-launcher", "text-generation-launcher|--port|8080|", "tgi", false, 8080 },
		{ "/opt/conda/bin/python3.11", "/opt/conda/bin/python3.11|/opt/conda/bin/text-generation-server|serve|m|", "tgi", true, 0 },
		{ "/usr/local/bin/text-generation-router", "text-generation-router|", "tgi", false, 0 },
		{ "/usr/local/bin/text-embeddings-router", "text-embeddings-router|--port|80|", "tei", false, 80 },
		{ "/opt/llama/llama-server", "./llama-server|-m|x.gguf|", "llama.cpp", false, 0 },
		{ "/opt/llama/llama-server-renamed", "llama-server|", "llama.cpp", false, 0 },
		{ "/usr/bin/python3.11", "llama-server|srv.py|22000|", "llama.cpp", false, 0 },
		{ "/usr/bin/python3", "python3|-m|llama_cpp.server|--model|m|", "llama-cpp-python", false, 0 },
		{ "/usr/local/bin/ollama", "ollama|serve|", "ollama", false, 0 },
		{ "/usr/local/bin/ollama", "/usr/local/bin/ollama|runner|--port|40001|", "ollama", true, 40001 },
		{ "/usr/local/bin/ollama", "ollama|pull|llama3|", NULL, false, 0 },
		{ "/opt/tritonserver/bin/tritonserver", "tritonserver|--http-port|8100|", "triton", false, 8100 },
		{ "/opt/tritonserver/backends/python/triton_python_backend_stub", "triton_python_backend_stub|/models/m/1/model.py|", "triton", true, 0 },
		{ "/usr/bin/python3.12", "python3|/usr/local/bin/trtllm-serve|m|", "tensorrt-llm", false, 0 },
		{ "/usr/bin/python3", "python|/x/bin/lmdeploy|serve|api_server|", "lmdeploy", false, 0 },
		{ "/usr/bin/local-ai", "local-ai|run|", "localai", false, 0 },
		{ "/tmp/backend-assets/grpc/llama-cpp-avx2", "/tmp/backend-assets/grpc/llama-cpp-avx2|--addr|127.0.0.1:40001|", "localai", true, 0 },
		{ "/usr/bin/python3", "python|/x/bin/litellm|--port|4000|", "litellm", false, 4000 },
		{ "/usr/bin/mistralrs-server", "mistralrs-server|", "mistral.rs", false, 0 },
		{ "/usr/bin/python3", "python|/x/bin/uvicorn|llama_app:app|", "uvicorn", false, 0 },
		{ "/usr/bin/python3", "python|/x/bin/uvicorn|shop:app|", NULL, false, 0 },
		{ "/usr/bin/python3", "python3|-u|/srv/vllm.py|", "vllm", false, 0 },
		/* they only mention one */
		{ "/usr/bin/vim.basic", "vim|vllm.py|", NULL, false, 0 },
		{ "/usr/bin/grep", "grep|-r|llama-server|", NULL, false, 0 },
		{ "/bin/bash", "bash|-c|vllm serve m|", NULL, false, 0 },
		{ "/usr/bin/python3", "python3|-c|import vllm|vllm|", NULL, false, 0 },
		{ "/usr/bin/tail", "tail|-f|/var/log/ollama|", NULL, false, 0 },
		{ "/usr/bin/python3", "python3|-m|http.server|", NULL, false, 0 },
		/* hostile: nothing, blanks, a port that is none */
		{ "", "", NULL, false, 0 },
		{ "", "||||", NULL, false, 0 },
		{ "", "   |", NULL, false, 0 },
		{ "/usr/bin/python3", "python3|", NULL, false, 0 },
		{ "/usr/bin/python3", "python3|-m|", NULL, false, 0 },
		{ "/x/llama-server", "llama-server|--port|99999|--port=|--port|-1|--port", "llama.cpp", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = strlen(cases[i].cmdline);
		char *copy = malloc(n ? n : 1); /* exact size: a read beyond it is seen */
		struct procfs_server s = { 0 };
		bool known;

		for (size_t k = 0; k < n; k++)
			copy[k] = cases[i].cmdline[k] == '|' ? '\0' : cases[i].cmdline[k];
		known = procfs_match_server(span_of(cases[i].exe), (struct span){ copy, n }, &s);
		free(copy);
		if (known != (cases[i].name != NULL) || (known && strcmp(s.name, cases[i].name)) || s.inner != cases[i].inner ||
		    s.port_hint != cases[i].port)
			fail_msg("%s %s: %s inner %d port %u", cases[i].exe, cases[i].cmdline, known ? s.name : "not known", s.inner, s.port_hint);
	}
}

/* ---- scans of a /proc made by hand ----------------------------------------------------------------- */
static char root[64];

static void put(const char *path, const char *text, size_t n)
{
	char full[256];
	int fd;

	snprintf(full, sizeof(full), "%s/proc/%s", root, path);
	for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), (ssize_t)n);
	close(fd);
}

static void point(const char *path, const char *target)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/proc/%s", root, path);
	assert_int_equal(symlink(target, full), 0);
}

/* A process with listening sockets on two ports of one namespace; the table is the namespace's, so it holds others' too. */
static void process(int pid, int ppid, const char *cmdline, size_t n, const char *net, const char *socket)
{
	static const char tcp[] = "  sl  local_address rem_address\n"
				  "   0: 00000000:1F40 00000000:0000 0A " REST "100\n"
				  "   1: 00000000:1F41 00000000:0000 0A " REST "101\n"
				  "   2: 00000000:1F42 00000000:0000 0A " REST "102\n"
				  "garbage\n"
				  "   3: 0100007F:1F40 0100007F:C350 01 " REST "103\n";
	char path[64], text[128];

	snprintf(path, sizeof(path), "%d/stat", pid);
	n = n ? n : strlen(cmdline) + 1;
	put(path, text, (size_t)snprintf(text, sizeof(text), "%d (x) S %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0", pid, ppid, 1000 + pid));
	snprintf(path, sizeof(path), "%d/cmdline", pid);
	put(path, cmdline, n);
	snprintf(path, sizeof(path), "%d/comm", pid);
	put(path, "x\ty\n", 4);
	snprintf(path, sizeof(path), "%d/net/tcp", pid);
	put(path, tcp, sizeof(tcp) - 1);
	snprintf(path, sizeof(path), "%d/net/tcp6", pid);
	put(path, "", 0);
	snprintf(path, sizeof(path), "%d/ns/x", pid);
	put(path, "", 0);
	snprintf(path, sizeof(path), "%d/ns/net", pid);
	point(path, net);
	snprintf(path, sizeof(path), "%d/fd/x", pid);
	put(path, "", 0);
	snprintf(path, sizeof(path), "%d/fd/3", pid);
	point(path, socket);
}

static int proc_make(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/weir-proc.XXXXXX");
	if (!mkdtemp(root))
		return -1;
	process(10, 1, "llama-server", 0, "net:[1]", "socket:[100]");
	process(20, 1, "launcher", 0, "net:[2]", "socket:[101]");
	process(21, 20, "worker", 0, "net:[2]", "socket:[102]");
	process(22, 21, "ollama\0runner", 14, "net:[2]", "socket:[100]");
	process(30, 1, "nginx", 0, "net:[1]", "socket:[102]");
	process(40, 1, "llama-server", 0, "nonsense", "socket:[102]");
	process(50, 1, "vllm", 0, "net:[1]", "/tmp/socket:[102]");
	process(60, 1, "ollama\0serve", 13, "net:[3]", "socket:[101]");
	process(61, 60, "/usr/lib/ollama/llama-server\0--port\08002", 41, "net:[3]", "socket:[102]");
	process(62, 1, "VLLM::EngineCore", 0, "net:[3]", "socket:[102]");
	put("99999999999999999999/cmdline", "llama-server", 13);
	put("12x/cmdline", "llama-server", 13);
	return 0;
}

static int proc_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static bool has_port(const struct discover_result *r, unsigned port)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->port[i].port == port)
			return true;
	return false;
}

static void scan_auto(void **state)
{
	static struct discover_result r;
	const struct discover_opts o = { .root = root, .automatic = true };

	(void)state;
	assert_int_equal(discover_scan(&o, NULL, &r), 0);
	/* nginx is not known, the runner and the engine are inner, so is what Ollama started; vllm's descriptor is a file's name */
	assert_int_equal(r.count, 2);
	for (size_t i = 0; i < r.count; i++) {
		bool ollama = r.port[i].port == 8001;

		assert_int_equal(r.port[i].port, ollama ? 8001 : 8000);
		assert_int_equal(r.port[i].pid, ollama ? 60 : 10);
		assert_true(r.port[i].automatic);
		assert_string_equal(r.port[i].server, ollama ? "ollama" : "llama.cpp");
	}
	assert_int_not_equal(r.port[0].port, r.port[1].port);
	assert_int_equal(r.hidden, 1); /* 40: its namespace could not be told */
}

static void scan_pid(void **state)
{
	static struct discover_result r;
	struct discover_opts o = { .root = root, .pids = { 20 }, .pid_count = 1 };

	(void)state;
	assert_int_equal(discover_scan(&o, NULL, &r), 0);
	assert_int_equal(r.count, 2);
	assert_true(has_port(&r, 8001) && has_port(&r, 8002)); /* its own and its child's; not the inner runner's below */
	assert_false(r.port[0].automatic);
	assert_string_equal(r.port[0].server, "x?y"); /* a name is never printed as it is */
	o.pids[0] = 22;
	assert_int_equal(discover_scan(&o, NULL, &r), 0);
	assert_int_equal(r.count, 1); /* asked for by number */
	o.pids[0] = 4000000;
	assert_int_equal(discover_scan(&o, NULL, &r), 0);
	assert_int_equal(r.count, 0);
	o.root = "/nowhere";
	assert_int_equal(discover_scan(&o, NULL, &r), -ENOENT);
}

/* ---- connections that were there before ------------------------------------------------------------ */
static void sockets_of_any_state(void **state)
{
	static const char *const bad[] = { "", "0:", "   0: 0100007F:1F90 0100007F 01 " REST "4711", "   0: 0100007F1F90 0100007F:C350 01 " REST "4711", "   0: 0100007F:1F90 0100007F:C3500 01 " REST "4711",
					   "   0: 0100007F:1F90 00007F:C350 01 " REST "4711", "   0: 0100007F:1F90 0100007F:C350 XX " REST "4711" };
	struct procfs_socket s;

	(void)state;
	assert_int_equal(procfs_parse_socket(SPAN("   0: 0100007F:1F90 0A0000C0:C350 01 " REST "4711 1 0 100 0 0 10 0"), &s), 1);
	assert_int_equal(s.state, PROCFS_ESTABLISHED);
	assert_int_equal(s.lport, 8080);
	assert_int_equal(s.rport, 50000);
	assert_int_equal(s.inode, 4711);
	assert_memory_equal(s.local + 10, "\xff\xff\x7f\x00\x00\x01", 6);
	assert_memory_equal(s.remote + 10, "\xff\xff\xc0\x00\x00\x0a", 6);
	assert_int_equal(procfs_parse_socket(SPAN("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"), &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (procfs_parse_socket(span_of(bad[i]), &s) != -EINVAL)
			fail_msg("%s", bad[i]);
}

struct past {
	uint16_t lport, rport;
	unsigned found, all;
};

static void past_see(void *ctx, const struct weir_conn_key *conn)
{
	struct past *p = ctx;

	p->all++;
	p->found += conn->lport == p->lport && conn->rport == p->rport;
}

/* A connection of our own: told as its other end sees it, while it is there. */
static void connections_of_a_process(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from = { 0 };
	int listens = socket(AF_INET, SOCK_STREAM, 0), calls = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(at);
	struct past p = { 0 };

	(void)state;
	assert_int_equal(bind(listens, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listens, 1), 0);
	assert_int_equal(getsockname(listens, (struct sockaddr *)&at, &n), 0);
	assert_int_equal(connect(calls, (struct sockaddr *)&at, sizeof(at)), 0);
	n = sizeof(from);
	assert_int_equal(getsockname(calls, (struct sockaddr *)&from, &n), 0);
	p.lport = ntohs(at.sin_port);
	p.rport = ntohs(from.sin_port);
	assert_int_equal(hops_past((uint32_t)getpid(), past_see, &p), 0);
	assert_int_equal(p.found, 1);
	close(calls);
	p.found = 0;
	assert_int_equal(hops_past((uint32_t)getpid(), past_see, &p), 0);
	assert_int_equal(p.found, 0);
	close(listens);
	assert_int_equal(hops_past(UINT32_MAX, past_see, &p), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sockets_of_any_state), cmocka_unit_test(connections_of_a_process),
		cmocka_unit_test(tcp_lines),   cmocka_unit_test(tcp_lines_hostile), cmocka_unit_test(tcp_line_cut),
		cmocka_unit_test(mount_lines), cmocka_unit_test(cgroup_is_found),   cmocka_unit_test(stat_and_links),
		cmocka_unit_test(known_servers), cmocka_unit_test(scan_auto),	    cmocka_unit_test(scan_pid),
	};

	return cmocka_run_group_tests(tests, proc_make, proc_remove);
}
