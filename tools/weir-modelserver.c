/*
 * weir-modelserver - a small OpenAI-compatible model server, for the demo, the tests and the benchmarks.
 *
 * It really tokenizes and really generates (modelserver/lm.h), keeps a prefix cache, answers in the
 * shapes of vLLM (role event first, one event per token, usage when asked), and keeps the truth that a
 * meter can be held against (modelserver/truth.h). Every write is its own: one event, one write(2),
 * unless --coalesce says otherwise. Each thread has its own listener, epoll and connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "modelserver/api.h"

/* ---- connections --------------------------------------------------------------------------------------------- */
/* Takes back what never left, and books an answer that was cut off. */
static void conn_settle(struct conn *c)
{
	static const struct linger reset = { 1, 0 };
	uint64_t sent = marks_sent(c->fd);
	uint32_t unsent = 0;

	if (sent < c->written) /* what is queued must not leave after it was called unsent */
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	for (uint32_t i = 0; i < c->marks.n; i++) {
		const struct mark *m = &c->marks.mark[i];

		if (m->off <= sent)
			continue;
		switch (m->kind) {
		case MARK_DELTA:
			unsent++;
			break;
		case MARK_USAGE:
			truth_add(c->client, T_PROMPT, -(int64_t)m->a);
			truth_add(c->client, T_COMPLETION, -(int64_t)m->b);
			truth_add(c->client, T_CACHED, -(int64_t)m->c);
			if (m->a) /* the first of its answer */
				truth_add(c->client, T_ESTIMATED, (int64_t)m->deltas - unsent);
			break;
		case MARK_STATUS:
			truth_add(c->client, (enum truth_field)m->a, -1);
			break;
		case MARK_ERROR:
			truth_add(c->client, T_STREAM_ERRORS, -1);
			break;
		default: /* the answer was written to its end, but did not leave */
			truth_add(c->client, T_ABORTED, 1);
			if (m->a)
				truth_add(c->client, T_ESTIMATED, -(int64_t)unsent);
			unsent = 0;
		}
	}
	if (c->phase != PHASE_ANSWER)
		return;
	truth_add(c->client, T_ABORTED, 1);
	if (!c->usage_sent && c->deltas > unsent)
		truth_add(c->client, T_ESTIMATED, (int64_t)c->deltas - unsent);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
}

static void conn_close(struct worker *w, struct conn *c)
{
	if (c->dead)
		return;
	if (c->heap)
		heap_remove(w, c);
	conn_settle(c);
	close(c->fd);
	c->dead = true;
	c->phase = PHASE_CLOSING;
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->text);
	buf_done(&c->prefix);
	free(c->marks.mark);
	c->marks = (struct marks){ 0 };
	c->next_dead = w->dead;
	w->dead = c;
}

/* After anything happened to a connection: close it if it is over, else let it rest. */
static void conn_after(struct worker *w, struct conn *c, bool ok)
{
	if (ok && c->phase == PHASE_CLOSING && c->out.n == c->out_at && !c->shut) {
		shutdown(c->fd, SHUT_WR); /* the client reads to the end, then closes; a reset would eat the answer */
		c->in.n = 0;
		c->shut = true;
		return;
	}
	if (!ok)
		conn_close(w, c);
}

static void conn_read(struct worker *w, struct conn *c)
{
	bool ended = false;

	for (int turns = 0; turns < 16; turns++) {
		ssize_t n;

		n = recv(c->fd, w->input, sizeof(w->input), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			ended = true;
			if (n < 0 || c->phase != PHASE_IDLE) {
				conn_close(w, c);
				return;
			}
			break;
		}
		truth_add(c->client, T_BYTES_IN, n);
		if (c->phase == PHASE_CLOSING)
			continue; /* read and forgotten, so that the answer is not lost to a reset */
		buf_add(&c->in, w->input, (size_t)n);
		if (c->phase == PHASE_ANSWER && c->in.n > cfg.max_body + HTTP_HEAD_MAX) {
			conn_close(w, c); /* pipelines more than anybody would wait for */
			return;
		}
	}
	conn_after(w, c, c->phase != PHASE_IDLE || conn_process(w, c));
	if (ended && !c->dead && c->phase != PHASE_CLOSING)
		conn_close(w, c); /* everything whole was answered; the client will not send the rest */
}

static void worker_pump(struct worker *w, struct conn *c)
{
	bool ok = answer_pump(w, c);

	if (ok && c->phase == PHASE_IDLE)
		ok = conn_process(w, c);
	conn_after(w, c, ok);
}

static void worker_event(struct worker *w, struct conn *c, uint32_t events)
{
	if (c->dead)
		return;
	if (events & EPOLLOUT) {
		bool ok = conn_flush(w, c);

		if (ok && c->phase == PHASE_ANSWER && c->out.n == c->out_at && !c->heap)
			ok = answer_pump(w, c);
		if (ok && c->phase == PHASE_IDLE)
			ok = conn_process(w, c);
		conn_after(w, c, ok);
		if (c->dead)
			return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn_read(w, c);
}

static void worker_accept(struct worker *w)
{
	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage from = { 0 };
		struct sockaddr_in6 *from6 = (struct sockaddr_in6 *)&from;
		struct sockaddr_in *from4 = (struct sockaddr_in *)&from;
		socklen_t n = sizeof(from);
		struct in6_addr addr = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
		int one = 1, fd = accept4(w->listener, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP };
		struct conn *c;

		if (fd < 0)
			return;
		if (from.ss_family == AF_INET6)
			addr = from6->sin6_addr;
		else
			memcpy(&addr.s6_addr[12], &from4->sin_addr, 4);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c = buf_realloc(NULL, sizeof(*c));
		*c = (struct conn){ .fd = fd, .client = truth_client(&addr) };
		ev.data.ptr = c;
		epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev);
	}
}

/* Frees the closed connections, but for those that still stand in the run queue. */
static void worker_bury(struct worker *w)
{
	struct conn *dead = w->dead;

	w->dead = NULL;
	while (dead) {
		struct conn *c = dead;

		dead = c->next_dead;
		if (c->queued) {
			c->next_dead = w->dead;
			w->dead = c;
		} else {
			free(c);
		}
	}
}

static int events_wait(int epoll, struct epoll_event *ev, int max, const struct timespec *wait)
{
	int n = epoll_pwait2(epoll, ev, max, wait, NULL);

	if (n < 0 && errno == ENOSYS) /* before 5.11: whole milliseconds, rounded up */
		n = epoll_wait(epoll, ev, max, wait ? (int)(wait->tv_sec * 1000 + (wait->tv_nsec + 999999) / 1000000) : -1);
	return n;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct epoll_event ev[256];

	for (;;) {
		struct timespec wait = { 0 };
		uint64_t now = now_ns();
		bool forever = !w->run && !w->heap_n;
		struct conn *run;
		int n;

		if (!w->run && w->heap_n && w->heap[1]->due_ns > now) {
			wait.tv_sec = (time_t)((w->heap[1]->due_ns - now) / 1000000000u);
			wait.tv_nsec = (long)((w->heap[1]->due_ns - now) % 1000000000u);
		}
		n = events_wait(w->epoll, ev, 256, forever ? NULL : &wait);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &stopping_fd)
				return NULL;
			if (ev[i].data.ptr == w)
				worker_accept(w);
			else
				worker_event(w, ev[i].data.ptr, ev[i].events);
		}
		for (now = now_ns(); w->heap_n && w->heap[1]->due_ns <= now;) {
			struct conn *c = w->heap[1];

			heap_remove(w, c);
			worker_pump(w, c);
		}
		run = w->run;
		w->run = NULL;
		while (run) {
			struct conn *c = run;

			run = c->next;
			c->queued = false;
			if (!c->dead && c->phase == PHASE_ANSWER)
				worker_pump(w, c);
		}
		worker_bury(w);
	}
}

/* ---- start and end --------------------------------------------------------------------------------------- */
static int listener_open(const struct addrinfo *ai)
{
	int one = 1, zero = 0, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (cfg.threads > 1)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (cfg.defer)
		setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &cfg.defer, sizeof(cfg.defer));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 4096) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int worker_start(struct worker *w, const struct addrinfo *ai, uint64_t seed)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = w };

	*w = (struct worker){ .random = seed };
	w->listener = listener_open(ai);
	if (w->listener < 0)
		return w->listener;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener, &ev);
	ev.data.ptr = &stopping_fd;
	epoll_ctl(w->epoll, EPOLL_CTL_ADD, stopping_fd, &ev);
	return -pthread_create(&w->thread, NULL, worker_main, w);
}

static void truth_save(void)
{
	struct buf b = { 0 };
	char tmp[PATH_MAX];
	FILE *f;

	if (!cfg.truth_path)
		return;
	truth_write(&b, cfg.name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", cfg.truth_path);
	f = fopen(tmp, "we");
	if (!f || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) || rename(tmp, cfg.truth_path))
		fprintf(stderr, "weir-modelserver: %s: %s\n", cfg.truth_path, strerror(errno));
	buf_done(&b);
}

static int key_read(const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(cfg.key, sizeof(cfg.key), f)) {
		fprintf(stderr, "weir-modelserver: %s: %s\n", path, f ? "no key in it" : strerror(errno));
		return -EINVAL;
	}
	fclose(f);
	cfg.key[strcspn(cfg.key, "\r\n")] = 0;
	return 0;
}

static void usage(FILE *f)
{
	fputs("usage: weir-modelserver [options]\n"
	      "  --port N             (8000; 0 takes a free one)\n"
	      "  --bind ADDRESS       IPv4 or IPv6 (127.0.0.1; :: for everything)\n"
	      "  --threads N          (1)\n"
	      "  --model NAME         may be repeated (weir-tiny)\n"
	      "  --tokens-per-s R     of each answer; 0: as fast as it goes (0)\n"
	      "  --coalesce N         stream events per write (1)\n"
	      "  --work-us N          computing time per request: limits the server's rate (0)\n"
	      "  --max-queue N        answers under way before 429 (0: no limit)\n"
	      "  --error-rate P       share of requests answered 500 (0)\n"
	      "  --stream-error-rate P  share of streams that fail in the middle, inside their 200 (0)\n"
	      "  --first-token-ms N   wait before the first token of an answer (0)\n"
	      "  --chaos              POST /chaos?model=M&first_token_ms=N&slow=F&error_rate=P&stream_error_rate=P changes these while it runs\n"
	      "  --api-key FILE       ask for this key\n"
	      "  --key-prefix TEXT    take any key that begins so\n"
	      "  --max-body BYTES     (16 MiB)\n"
	      "  --defer S            TCP_DEFER_ACCEPT\n"
	      "  --seed N\n"
	      "  --truth FILE         what left the server per client: written on exit and on SIGUSR1; GET /truth answers the same\n",
	      f);
}

enum { OPT_PORT = 1, OPT_BIND, OPT_THREADS, OPT_MODEL, OPT_RATE, OPT_COALESCE, OPT_WORK, OPT_QUEUE, OPT_ERRORS, OPT_STREAM_ERRORS, OPT_KEY, OPT_BODY, OPT_DEFER, OPT_SEED, OPT_TRUTH, OPT_FIRST, OPT_CHAOS, OPT_PREFIX, OPT_HELP };

static int options_read(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", 1, NULL, OPT_PORT },
		{ "bind", 1, NULL, OPT_BIND },
		{ "threads", 1, NULL, OPT_THREADS },
		{ "model", 1, NULL, OPT_MODEL },
		{ "tokens-per-s", 1, NULL, OPT_RATE },
		{ "coalesce", 1, NULL, OPT_COALESCE },
		{ "work-us", 1, NULL, OPT_WORK },
		{ "max-queue", 1, NULL, OPT_QUEUE },
		{ "error-rate", 1, NULL, OPT_ERRORS },
		{ "stream-error-rate", 1, NULL, OPT_STREAM_ERRORS },
		{ "api-key", 1, NULL, OPT_KEY },
		{ "max-body", 1, NULL, OPT_BODY },
		{ "defer", 1, NULL, OPT_DEFER },
		{ "seed", 1, NULL, OPT_SEED },
		{ "truth", 1, NULL, OPT_TRUTH },
		{ "first-token-ms", 1, NULL, OPT_FIRST },
		{ "chaos", 0, NULL, OPT_CHAOS },
		{ "key-prefix", 1, NULL, OPT_PREFIX },
		{ "help", 0, NULL, OPT_HELP },
		{ 0 },
	};

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case OPT_PORT: cfg.port = optarg; break;
		case OPT_BIND: cfg.bind = optarg; break;
		case OPT_THREADS: cfg.threads = atoi(optarg); break;
		case OPT_RATE: cfg.tokens_per_s = atof(optarg); break;
		case OPT_COALESCE: cfg.coalesce = atoi(optarg); break;
		case OPT_WORK: cfg.work_us = atoi(optarg); break;
		case OPT_QUEUE: cfg.max_queue = atoi(optarg); break;
		case OPT_ERRORS: cfg.error_rate = atof(optarg); break;
		case OPT_STREAM_ERRORS: cfg.stream_error_rate = atof(optarg); break;
		case OPT_BODY: cfg.max_body = strtoull(optarg, NULL, 10); break;
		case OPT_DEFER: cfg.defer = atoi(optarg); break;
		case OPT_SEED: cfg.seed = strtoull(optarg, NULL, 10); break;
		case OPT_TRUTH: cfg.truth_path = optarg; break;
		case OPT_FIRST: cfg.first_token_ms = atoi(optarg); break;
		case OPT_CHAOS: cfg.chaos = true; break;
		case OPT_PREFIX: cfg.key_prefix = optarg; break;
		case OPT_MODEL:
			if (cfg.model_n == MODELS_MAX)
				return -E2BIG;
			cfg.models[cfg.model_n++] = optarg;
			break;
		case OPT_KEY:
			if (key_read(optarg))
				return -EINVAL;
			break;
		case OPT_HELP:
			usage(stdout);
			exit(0);
		default:
			return -EINVAL;
		}
	}
	if (!cfg.model_n)
		cfg.models[cfg.model_n++] = "weir-tiny";
	if (optind < argc || cfg.first_token_ms < 0 || cfg.threads < 1 || cfg.threads > THREADS_MAX || cfg.coalesce < 1 || cfg.coalesce > COALESCE_MAX)
		return -EINVAL;
	return 0;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *ai;
	struct sockaddr_storage bound = { 0 };
	struct worker *workers;
	socklen_t n = sizeof(bound);
	struct rlimit files;
	sigset_t set;
	int r, sig;

	if (options_read(argc, argv) < 0) {
		usage(stderr);
		return 2;
	}
	r = getaddrinfo(cfg.bind, cfg.port, &hints, &ai);
	if (r) {
		fprintf(stderr, "weir-modelserver: %s port %s: %s\n", cfg.bind, cfg.port, gai_strerror(r));
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);

	lm = lm_new();
	stopping_fd = eventfd(0, EFD_CLOEXEC);
	workers = buf_realloc(NULL, sizeof(*workers) * (size_t)cfg.threads);
	for (int i = 0; i < cfg.threads; i++) {
		r = worker_start(&workers[i], ai, cfg.seed * 1000003 + (uint64_t)i);
		if (r < 0) {
			fprintf(stderr, "weir-modelserver: %s port %s: %s\n", cfg.bind, cfg.port, strerror(-r));
			return 1;
		}
		if (i)
			continue;
		getsockname(workers[0].listener, (struct sockaddr *)&bound, &n);
		memcpy(ai->ai_addr, &bound, n); /* --port 0: the others take the same */
	}
	r = ntohs(((struct sockaddr_in *)&bound)->sin_port);
	snprintf(cfg.name, sizeof(cfg.name), strchr(cfg.bind, ':') ? "[%s]:%d" : "%s:%d", cfg.bind, r);
	fprintf(stderr, "weir-modelserver: ready on %s, %u tokens known\n", cfg.name, lm->vocab);
	for (sig = 0; sig != SIGINT && sig != SIGTERM;) {
		sigwait(&set, &sig);
		if (sig == SIGUSR1)
			truth_save();
	}
	eventfd_write(stopping_fd, 1);
	for (int i = 0; i < cfg.threads; i++) {
		pthread_join(workers[i].thread, NULL);
		free(workers[i].json.node);
		free(workers[i].heap);
		buf_done(&workers[i].body);
		buf_done(&workers[i].scratch);
	}
	truth_save();
	freeaddrinfo(ai);
	free(workers);
	free(lm);
	return 0;
}
