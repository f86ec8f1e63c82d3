/*
 * The helper that attaches late: real uprobes, put into real processes through it after everything was dropped here. Needs root.
 *
 * The program is this test's own: it adds one to the array element that its cookie names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "capture/attacher.h"
#include "capture/helper.h"

#define COUNTERS 4

static int counters = -1, programs[2] = { -1, -1 };
static int helper_fd = -1, helper_pid = -1;
static const char *refused;

/* What is probed. In the test's own executable, which the children map, too. */
__attribute__((noinline)) int probed(int x);
__attribute__((noinline)) int probed(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

/* counters[which] += 1, or counters[cookie] where `which` is negative. Cookies need Linux 5.15. */
static int program_load(int which)
{
	const struct bpf_insn fixed[] = {
		{ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = -4, .imm = which },
	};
	const struct bpf_insn cookie[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_attach_cookie },
		{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_0, .off = -4 },
	};
	const struct bpf_insn rest[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -4 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = counters },
		{ 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = 1 },
		{ .code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_1, .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_insn all[ARRAY_SIZE(cookie) + ARRAY_SIZE(rest)];
	size_t n = which < 0 ? ARRAY_SIZE(cookie) : ARRAY_SIZE(fixed);

	memcpy(all, which < 0 ? cookie : fixed, n * sizeof(*all));
	memcpy(all + n, rest, sizeof(rest));
	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "weir_test", "GPL", all, n + ARRAY_SIZE(rest), NULL);
}

static uint64_t counted(uint32_t which)
{
	uint64_t v = 0;

	assert_int_equal(bpf_map_lookup_elem(counters, &which, &v), 0);
	return v;
}

static int begin(void **state)
{
	int r;

	(void)state;
	if (geteuid()) {
		refused = "needs root";
		return 0;
	}
	counters = bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_test", 4, 8, COUNTERS, NULL);
	programs[0] = counters < 0 ? -1 : program_load(0);
	if (programs[0] < 0) {
		refused = "cannot load BPF programs here";
		return 0;
	}
	programs[1] = program_load(-1);
	if (programs[1] < 0)
		print_message("SKIP: no cookies on this kernel\n");
	r = attacher_start(programs, programs[1] < 0 ? 1 : 2, &helper_fd, &helper_pid);
	if (r == -EOPNOTSUPP)
		refused = "this kernel has no uprobes";
	else
		assert_int_equal(r, 0);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	helper_end(&helper_fd, &helper_pid);
	return 0;
}

static void needs_helper(void)
{
	if (!refused)
		return;
	print_message("SKIP: %s\n", refused);
	skip();
}

/* ---- a process to put probes into: calls probed() as often as it is told ---------------------------- */
struct target {
	int pid, to, from;
};

static void target_serve(int in, int out)
{
	uint32_t n;

	while (read(in, &n, sizeof(n)) == sizeof(n)) {
		for (uint32_t i = 0; i < n; i++)
			probed((int)i);
		if (write(out, &n, sizeof(n)) != sizeof(n))
			break;
	}
	_exit(0);
}

static struct target target_start(void)
{
	int to[2], from[2];
	struct target t;

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	t.pid = fork();
	assert_true(t.pid >= 0);
	if (t.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* nothing of ours, such as the links of probes */
		if (dup2(to[0], 0) != 0 || dup2(from[1], 1) != 1)
			_exit(1);
		close_range(3, ~0u, 0);
		target_serve(0, 1);
	}
	close(to[0]);
	close(from[1]);
	t.to = to[1];
	t.from = from[0];
	return t;
}

static void target_call(const struct target *t, uint32_t n)
{
	assert_int_equal(write(t->to, &n, sizeof(n)), sizeof(n));
	assert_int_equal(read(t->from, &n, sizeof(n)), sizeof(n));
}

static void target_end(struct target *t)
{
	close(t->to);
	close(t->from);
	kill(t->pid, SIGKILL);
	assert_int_equal(waitpid(t->pid, NULL, 0), t->pid);
}

/* A mapping of a process: the one that holds `address`, or offset `at` of a file called so. */
static bool map_find(int pid, uintptr_t address, const char *path, uint64_t at, struct attacher_request *r, uint64_t *ret_offset)
{
	unsigned long long start, end, offset;
	char name[32], line[512];
	bool found = false;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	f = fopen(name, "re");
	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%llx-%llx %*s %llx", &start, &end, &offset), 3);
		found = path ? strstr(line, path) && offset <= at && at < offset + (end - start) : start <= address && address < end;
	}
	fclose(f);
	r->map_start = start;
	r->map_end = end;
	*ret_offset = path ? at : address - start + offset;
	return found;
}

/* What a finder does: the mapping that holds probed(), its file, the process's start. The address is another in each, the offset is not. */
static struct attacher_request request_for(int pid, const char *path)
{
	struct attacher_request r = { 0 };
	struct stat st;
	char name[32];
	int dir, fd;

	assert_true(map_find(getpid(), (uintptr_t)probed, NULL, 0, &r, &r.offset));
	assert_true(map_find(pid, (uintptr_t)probed, path, r.offset, &r, &r.offset));
	r.pid = (uint32_t)pid;
	snprintf(name, sizeof(name), "/proc/%d", pid);
	dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	fd = attacher_open_map(dir, r.map_start, r.map_end, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	r.dev = st.st_dev;
	r.inode = st.st_ino;
	assert_int_equal(attacher_start_ticks(dir, &r.start_ticks), 0);
	close(fd);
	close(dir);
	return r;
}

static int answer(int fd, uint32_t id, int *ret_link)
{
	struct attacher_reply reply;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(attacher_answer(fd, &reply, ret_link), 1);
	assert_int_equal(reply.id, id);
	assert_true((reply.error == 0) == (*ret_link >= 0));
	return reply.error;
}

static int ask(struct attacher_request *r, int *ret_link)
{
	static uint32_t id;

	r->id = ++id;
	assert_int_equal(attacher_ask(helper_fd, r), 0);
	return answer(helper_fd, id, ret_link);
}

/* Takes a probe out. The helper may hold its own copy for a moment longer than it takes us to read the answer: until it turns to another. */
static void let_go(int link)
{
	struct attacher_request none = { 0 };

	close(link);
	assert_int_equal(ask(&none, &link), -EINVAL);
}

/* ---- the tests --------------------------------------------------------------------------------------- */
static void attaches_and_lets_go(void **state)
{
	struct target t, other;
	struct attacher_request r;
	uint64_t before;
	int link;

	(void)state;
	needs_helper();
	t = target_start();
	other = target_start();
	r = request_for(t.pid, NULL);
	r.flags = ATTACHER_ONLY_PID;
	target_call(&t, 10);
	before = counted(0);
	assert_int_equal(ask(&r, &link), 0);
	target_call(&t, 1000);
	assert_int_equal(counted(0) - before, 1000);
	target_call(&other, 1000); /* the same file, another process */
	assert_int_equal(counted(0) - before, 1000);
	let_go(link);
	target_call(&t, 1000); /* nothing is left behind, and it works as before */
	assert_int_equal(counted(0) - before, 1000);
	target_end(&t);
	target_end(&other);
}

static void attaches_to_all_by_file(void **state)
{
	struct target t, other, later;
	struct attacher_request r;
	uint64_t before;
	int link, back;

	(void)state;
	needs_helper();
	t = target_start();
	other = target_start();
	r = request_for(t.pid, NULL);
	before = counted(0);
	assert_int_equal(ask(&r, &link), 0);
	r.flags = ATTACHER_RETURN;
	assert_int_equal(ask(&r, &back), 0);
	later = target_start(); /* a worker that starts afterwards */
	target_call(&t, 100);
	target_call(&other, 10);
	target_call(&later, 1);
	assert_int_equal(counted(0) - before, 2 * 111);
	let_go(back);
	target_call(&t, 1);
	assert_int_equal(counted(0) - before, 2 * 111 + 1);
	let_go(link);
	target_end(&t);
	target_end(&other);
	target_end(&later);
}

static void tells_probes_apart_by_cookie(void **state)
{
	struct target t;
	struct attacher_request r;
	uint64_t before[2];
	int link[2];

	(void)state;
	needs_helper();
	if (programs[1] < 0)
		skip();
	t = target_start();
	r = request_for(t.pid, NULL);
	r.program = 1;
	r.flags = ATTACHER_ONLY_PID;
	for (uint32_t i = 0; i < 2; i++) {
		before[i] = counted(2 + i);
		r.cookie = 2 + i;
		r.flags |= i ? ATTACHER_RETURN : 0;
		assert_int_equal(ask(&r, &link[i]), 0);
	}
	target_call(&t, 50);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(counted(2 + i) - before[i], 50);
		let_go(link[i]);
	}
	target_end(&t);
}

static void refuses_what_is_not_as_it_was(void **state)
{
	struct attacher_request good, r;
	struct target t;
	int link;

	(void)state;
	needs_helper();
	t = target_start();
	good = request_for(t.pid, NULL);
	r = good, r.start_ticks++;
	assert_int_equal(ask(&r, &link), -ESRCH);
	r = good, r.inode++;
	assert_int_equal(ask(&r, &link), -ESTALE);
	r = good, r.dev++;
	assert_int_equal(ask(&r, &link), -ESTALE);
	r = good, r.map_end += 4096;
	assert_int_equal(ask(&r, &link), -ESTALE);
	r = good, r.map_start = r.map_end;
	assert_int_equal(ask(&r, &link), -EINVAL);
	r = good, r.program = 2;
	assert_int_equal(ask(&r, &link), -EINVAL);
	r = good, r.flags = 64;
	assert_int_equal(ask(&r, &link), -EINVAL);
	r = good, r.offset = UINT64_C(1) << 40; /* beyond the file */
	assert_int_equal(ask(&r, &link), -EINVAL);
	r = good, r.pid = 0;
	assert_int_equal(ask(&r, &link), -EINVAL);
	r = good, r.pid = UINT32_MAX;
	assert_int_equal(ask(&r, &link), -EINVAL);
	target_end(&t);
	assert_int_equal(ask(&good, &link), -ESRCH);
	r = request_for(getpid(), NULL);
	assert_int_equal(ask(&r, &link), 0); /* and goes on */
	close(link);
}

/* The way it is used: whoever asks has no privilege any more, and the target lives in a root and mount namespace of its own. */
static void asked_without_privilege(void **state)
{
	struct attacher_request r;
	struct target t;
	uint64_t before;
	int status, pid;

	(void)state;
	needs_helper();
	t = target_start();
	r = request_for(t.pid, NULL);
	r.flags = ATTACHER_ONLY_PID;
	before = counted(0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct attacher_reply reply;
		struct pollfd p = { .fd = helper_fd, .events = POLLIN };
		int link = -1;
		uint32_t n = 7;

		if (syscall(SYS_setresgid, 65534, 65534, 65534) || syscall(SYS_setresuid, 65534, 65534, 65534))
			_exit(1);
		if (attacher_ask(helper_fd, &r) || poll(&p, 1, 60000) != 1 || attacher_answer(helper_fd, &reply, &link) != 1 || reply.error || link < 0)
			_exit(2);
		if (write(t.to, &n, sizeof(n)) != sizeof(n) || read(t.from, &n, sizeof(n)) != sizeof(n))
			_exit(3);
		_exit(0); /* with the link: its end is the probe's end, however it comes */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(counted(0) - before, 7);
	target_call(&t, 5);
	assert_int_equal(counted(0) - before, 7);
	target_end(&t);
}

static void mapped_file_that_is_deleted(void **state)
{
	static const char copy[] = "/tmp/weir-attacher-target";
	struct attacher_request r;
	uint64_t before;
	int pid, status, link, in[2], out[2];
	char a[16], b[16];
	uint32_t n = 3;

	(void)state;
	needs_helper();
	assert_int_equal(system("cp /proc/$PPID/exe /tmp/weir-attacher-target"), 0);
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(in[1]);
		close(out[0]);
		/* A mount namespace in which the path is something else: what counts is the mapping. */
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(10);
		snprintf(a, sizeof(a), "%d", in[0]);
		snprintf(b, sizeof(b), "%d", out[1]);
		execl(copy, copy, "serve", a, b, (char *)NULL);
		_exit(11);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], &n, sizeof(n)), sizeof(n));
	assert_int_equal(read(out[0], &n, sizeof(n)), sizeof(n)); /* it runs */
	assert_int_equal(unlink(copy), 0);
	r = request_for(pid, copy);
	before = counted(0);
	assert_int_equal(ask(&r, &link), 0);
	n = 40;
	assert_int_equal(write(in[1], &n, sizeof(n)), sizeof(n));
	assert_int_equal(read(out[0], &n, sizeof(n)), sizeof(n));
	assert_int_equal(counted(0) - before, 40);
	close(link);
	close(in[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(out[0]);
}

static size_t open_fds(int pid)
{
	char name[32];
	size_t n = 0;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/fd", pid);
	dir = opendir(name);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Attach and detach under load: the target lives on, and neither side keeps a descriptor. */
static void many_cycles(void **state)
{
	struct attacher_request r, bad;
	struct target t;
	size_t ours, its;
	int link, wrong;

	(void)state;
	needs_helper();
	t = target_start();
	r = request_for(t.pid, NULL);
	bad = r;
	bad.inode++;
	assert_int_equal(ask(&r, &link), 0);
	let_go(link);
	ours = open_fds(getpid());
	its = open_fds(helper_pid);
	for (int i = 0; i < 300; i++) {
		r.flags = (uint16_t)(i % 4);
		assert_int_equal(ask(&r, &link), 0);
		target_call(&t, 20);
		assert_int_equal(ask(&bad, &wrong), -ESTALE);
		close(link);
	}
	let_go(-1);
	target_call(&t, 20);
	assert_int_equal(open_fds(getpid()), ours);
	assert_int_equal(open_fds(helper_pid), its);
	target_end(&t);
}

static void helper_is_confined(void **state)
{
	char name[64], line[256];
	unsigned long long eff = 0;
	int seccomp = 0, uid = -1;
	FILE *f;

	(void)state;
	needs_helper();
	snprintf(name, sizeof(name), "/proc/%d/status", helper_pid);
	f = fopen(name, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "CapPrm: %llx", &eff);
		sscanf(line, "Seccomp: %d", &seccomp);
		sscanf(line, "Uid: %d", &uid);
	}
	fclose(f);
	assert_int_equal(uid, 65534);
	assert_int_equal(seccomp, 2);
	/* sys_ptrace, dac_read_search, perfmon, bpf, checkpoint_restore, sys_admin where the kernel wants it; what this host withholds is missing */
	assert_int_equal(eff & ~(1ULL << 19 | 1ULL << 2 | 1ULL << 38 | 1ULL << 39 | 1ULL << 40 | 1ULL << 21), 0);
	assert_true(eff & 1ULL << 38 && eff & 1ULL << 39);
}

static void hostile_messages(void **state)
{
	int fd, pid, link;
	struct attacher_reply reply;
	struct pollfd p;

	(void)state;
	needs_helper();
	/* half a request: the helper ends rather than guess */
	assert_int_equal(attacher_start(programs, 1, &fd, &pid), 0);
	assert_int_equal(send(fd, "half", 4, 0), 4);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(attacher_answer(fd, &reply, &link), -EPIPE);
	assert_int_equal(attacher_ask(fd, &(struct attacher_request){ 0 }), -EPIPE);
	helper_end(&fd, &pid);
	assert_int_equal(fd, -1);
	assert_int_equal(pid, -1);
	/* more requests than anybody reads the answers of: asking never blocks */
	assert_int_equal(attacher_start(programs, 1, &fd, &pid), 0);
	for (int i = 0, r = 0; r == 0; i++) {
		r = attacher_ask(fd, &(struct attacher_request){ .id = (uint32_t)i });
		assert_true(r == 0 || r == -EAGAIN);
		assert_true(i < 1000000);
	}
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(answer(fd, i, &link), -EINVAL);
	helper_end(&fd, &pid);
}

/* kill -9 of whoever started it: the helper goes too. */
static void dies_with_the_agent(void **state)
{
	int pair[2], agent, helper = -1;
	char name[32];

	(void)state;
	needs_helper();
	assert_int_equal(pipe(pair), 0);
	agent = fork();
	assert_true(agent >= 0);
	if (agent == 0) {
		int fd, pid;

		if (attacher_start(programs, 1, &fd, &pid) < 0 || write(pair[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		for (;;)
			pause();
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &helper, sizeof(helper)), sizeof(helper));
	snprintf(name, sizeof(name), "/proc/%d", helper);
	kill(agent, SIGKILL);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
	for (int i = 0; i < 6000; i++) {
		char stat[64], text[512];
		FILE *f;

		if (access(name, F_OK) < 0)
			break;
		/* in a container nobody may reap it */
		snprintf(stat, sizeof(stat), "%s/stat", name);
		f = fopen(stat, "re");
		if (!f)
			break;
		if (fgets(text, sizeof(text), f) && strstr(text, ") Z ")) {
			fclose(f);
			break;
		}
		fclose(f);
		assert_true(i < 5999);
		usleep(10000);
	}
	close(pair[0]);
}

static void too_many_programs(void **state)
{
	int fds[ATTACHER_PROGRAMS_MAX + 1] = { 0 }, fd, pid;

	(void)state;
	assert_int_equal(attacher_start(fds, ARRAY_SIZE(fds), &fd, &pid), -E2BIG);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attaches_and_lets_go), cmocka_unit_test(attaches_to_all_by_file), cmocka_unit_test(tells_probes_apart_by_cookie),
		cmocka_unit_test(refuses_what_is_not_as_it_was), cmocka_unit_test(asked_without_privilege), cmocka_unit_test(mapped_file_that_is_deleted),
		cmocka_unit_test(many_cycles), cmocka_unit_test(helper_is_confined), cmocka_unit_test(hostile_messages),
		cmocka_unit_test(dies_with_the_agent), cmocka_unit_test(too_many_programs),
	};

	if (argc == 4 && !strcmp(argv[1], "serve"))
		target_serve(atoi(argv[2]), atoi(argv[3]));
	return cmocka_run_group_tests(tests, begin, finish);
}
