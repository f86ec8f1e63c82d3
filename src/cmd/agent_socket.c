#include "cmd/agent_socket.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define QUESTION_MAX 32
#define PIECE_CLIENTS 64	 /* entries made into text at a time: some 25 KB */
#define PIECES_PER_EVENT 8	 /* then others have their turn */

enum stage { STAGE_QUESTION, STAGE_CLIENTS, STAGE_AGED, STAGE_ACCOUNTS, STAGE_LAST };

struct caller {
	int fd; /* -1: free slot */
	enum stage stage;
	char question[QUESTION_MAX];
	size_t asked;
	struct capture_cursor cursor;
	size_t aged;
	enum account_kind by;
	uint32_t account;
	struct str out;
	size_t sent;
	unsigned idle_s;
};

struct agent_socket {
	struct agent_socket_opts o;
	int fd;
	bool bound;
	struct caller callers[SOCKET_CALLERS];
};

void client_write_json(struct str *out, const struct weir_client_key *key, const char *name, const struct weir_client *v)
{
	char server[SERVER_TEXT], client[ADDRESS_TEXT];

	server_text(key->server, key->port, server);
	address_text(key->client, client);
	json_begin(out, '{');
	json_kstring(out, "server", span_of(server));
	json_kstring(out, "client_ip", span_of(name ? name : client));
	json_kuint(out, "requests", v->requests);
	json_kuint(out, "status_2xx", v->status_2xx);
	json_kuint(out, "status_3xx", v->status_3xx);
	json_kuint(out, "status_4xx", v->status_4xx);
	json_kuint(out, "status_5xx", v->status_5xx);
	json_kuint(out, "stream_errors", v->stream_errors);
	json_kuint(out, "prompt_tokens", v->prompt_tokens);
	json_kuint(out, "completion_tokens", v->completion_tokens);
	json_kuint(out, "cached_tokens", v->cached_tokens);
	json_kuint(out, "reasoning_tokens", v->reasoning_tokens);
	json_kuint(out, "estimated_tokens", v->estimated_tokens);
	json_kuint(out, "bytes_in", v->bytes_in);
	json_kuint(out, "bytes_out", v->bytes_out);
	json_kint(out, "open", v->open);
	json_kuint(out, "aborted", v->aborted);
	json_kuint(out, "lost", v->lost);
	json_kuint(out, "lost_bytes", v->raw_lost_bytes);
	json_end(out, '}');
	str_addc(out, '\n');
}

/* ---- callers --------------------------------------------------------------------------------------- */
static void hang_up(struct caller *c)
{
	close(c->fd);
	str_done(&c->out);
	*c = (struct caller){ .fd = -1 };
}

static void piece_of_clients(struct agent_socket *s, struct caller *c)
{
	struct weir_client_key keys[PIECE_CLIENTS];
	struct weir_client values[PIECE_CLIENTS];
	int n = capture_clients(s->o.capture, &c->cursor, keys, values, PIECE_CLIENTS);

	for (int i = 0; i < n; i++)
		client_write_json(&c->out, &keys[i], keys[i].flags & WEIR_CLIENT_OTHER ? "other" : NULL, &values[i]);
	if (n <= 0)
		c->stage = STAGE_AGED;
}

static void piece_of_aged(struct agent_socket *s, struct caller *c)
{
	size_t end = MIN(c->aged + PIECE_CLIENTS, capture_aged_count(s->o.capture));

	for (; c->aged < end; c->aged++) {
		struct weir_client_key key;
		struct weir_client sum;

		capture_aged(s->o.capture, c->aged, &key, &sum);
		client_write_json(&c->out, &key, "aged", &sum);
	}
	if (c->aged >= capture_aged_count(s->o.capture))
		c->stage = STAGE_LAST;
}

static void piece_of_accounts(struct agent_socket *s, struct caller *c)
{
	if (!accounts_write(s->o.accounts, c->by, &c->account, PIECE_CLIENTS, &c->out))
		c->stage = STAGE_LAST;
}

/* "by client" and the like. */
static bool question_by(struct agent_socket *s, struct caller *c)
{
	for (int k = 0; k < ACCOUNT_KINDS && s->o.accounts; k++) {
		const char *name = account_kind_name((enum account_kind)k);
		size_t n = strlen(name);

		if (c->asked < 4 + n || strncmp(c->question, "by ", 3) || strncmp(c->question + 3, name, n) || c->question[3 + n] != '\n')
			continue;
		c->by = (enum account_kind)k;
		c->stage = STAGE_ACCOUNTS;
		return true;
	}
	return false;
}

static bool question_read(struct agent_socket *s, struct caller *c)
{
	ssize_t n = recv(c->fd, c->question + c->asked, sizeof(c->question) - c->asked, MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	c->asked += (size_t)n;
	if (!memchr(c->question, '\n', c->asked))
		return c->asked < sizeof(c->question);
	if (!strncmp(c->question, "clients\n", 8)) {
		c->stage = STAGE_CLIENTS;
	} else if (!strncmp(c->question, "stats\n", 6)) {
		s->o.stats(s->o.ctx, &c->out);
		c->stage = STAGE_LAST;
	} else if (!strncmp(c->question, "unknown\n", 8) && s->o.unknown) {
		s->o.unknown(s->o.ctx, &c->out);
		c->stage = STAGE_LAST;
	} else {
		return question_by(s, c);
	}
	return true;
}

/* Writes what is ready and makes the next piece, as long as the caller takes it. False: done with. */
static bool answer_go_on(struct agent_socket *s, struct caller *c)
{
	for (int i = 0; i < PIECES_PER_EVENT; i++) {
		while (c->sent < c->out.n) {
			ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (n < 0)
				return errno == EAGAIN || errno == EINTR;
			c->sent += (size_t)n;
			c->idle_s = 0;
		}
		str_reset(&c->out);
		c->sent = 0;
		if (c->stage == STAGE_LAST)
			return false;
		if (c->stage == STAGE_CLIENTS)
			piece_of_clients(s, c);
		else if (c->stage == STAGE_ACCOUNTS)
			piece_of_accounts(s, c);
		else
			piece_of_aged(s, c);
		if (str_error(&c->out))
			return false;
	}
	return true;
}

static void accept_one(struct agent_socket *s)
{
	int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN };

	if (fd < 0)
		return;
	for (uint32_t i = 0; i < SOCKET_CALLERS; i++) {
		if (s->callers[i].fd >= 0)
			continue;
		e.data.u64 = (uint64_t)s->o.tag << 32 | (i + 1);
		if (epoll_ctl(s->o.epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
			break;
		s->callers[i] = (struct caller){ .fd = fd };
		return;
	}
	close(fd); /* all lines are busy */
}

void agent_socket_event(struct agent_socket *s, uint32_t which, uint32_t events)
{
	struct epoll_event e = { .events = EPOLLOUT };
	struct caller *c;

	if (which == 0) {
		accept_one(s);
		return;
	}
	if (which > SOCKET_CALLERS || s->callers[which - 1].fd < 0)
		return;
	c = &s->callers[which - 1];
	if (c->stage == STAGE_QUESTION) {
		if (!question_read(s, c)) {
			hang_up(c);
			return;
		}
		if (c->stage == STAGE_QUESTION)
			return;
		e.data.u64 = (uint64_t)s->o.tag << 32 | which;
		epoll_ctl(s->o.epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
	}
	if (events & (EPOLLERR | EPOLLHUP) || !answer_go_on(s, c))
		hang_up(c);
}

void agent_socket_second(struct agent_socket *s)
{
	for (size_t i = 0; i < SOCKET_CALLERS; i++)
		if (s->callers[i].fd >= 0 && ++s->callers[i].idle_s > SOCKET_PATIENCE_S)
			hang_up(&s->callers[i]);
}

/* ---- open and close -------------------------------------------------------------------------------- */

/* Makes way for a new socket: a stale one, left by an agent that could no longer remove it, goes. */
static int path_clear(const struct sockaddr_un *a)
{
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ECONNREFUSED)
		return -errno;
	return unlink(a->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int agent_socket_open(const struct agent_socket_opts *o, struct agent_socket **ret)
{
	CLEANUP(agent_socket_freep) struct agent_socket *s = calloc(1, sizeof(*s));
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uint64_t)o->tag << 32 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mode_t mask;
	int r;

	if (!s)
		return -ENOMEM;
	s->o = *o;
	for (size_t i = 0; i < SOCKET_CALLERS; i++)
		s->callers[i].fd = -1;
	s->fd = -1;
	if (strlen(o->path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, o->path, strlen(o->path) + 1);
	r = path_clear(&a);
	if (r < 0)
		return r;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return -errno;
	mask = umask(0117); /* 0660 from its first moment on */
	r = bind(s->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return r;
	s->bound = true;
	if (o->group != (gid_t)-1 && chown(o->path, (uid_t)-1, o->group) < 0)
		return -errno;
	if (listen(s->fd, SOCKET_CALLERS) < 0 || epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0)
		return -errno;
	*ret = TAKE_PTR(s);
	return 0;
}

struct agent_socket *agent_socket_free(struct agent_socket *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < SOCKET_CALLERS; i++)
		if (s->callers[i].fd >= 0)
			hang_up(&s->callers[i]);
	closep(&s->fd);
	if (s->bound)
		unlink(s->o.path); /* works only where the folder is ours after the drop; else the next agent does it */
	free(s);
	return NULL;
}
