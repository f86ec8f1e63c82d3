#include "capture/procfs.h"

#include <ctype.h>

bool procfs_next_line(struct span *rest, struct span *ret_line)
{
	const char *end;

	if (!rest->n)
		return false;
	end = memchr(rest->p, '\n', rest->n);
	ret_line->p = rest->p;
	ret_line->n = end ? (size_t)(end - rest->p) : rest->n;
	rest->n -= MIN(rest->n, ret_line->n + 1);
	rest->p += ret_line->n + (end ? 1 : 0);
	return true;
}

/* The next field between blanks; empty at the end. */
static struct span field_next(struct span *rest)
{
	struct span f;

	while (rest->n && (*rest->p == ' ' || *rest->p == '\t'))
		rest->p++, rest->n--;
	f = (struct span){ rest->p, 0 };
	while (rest->n && *rest->p != ' ' && *rest->p != '\t')
		rest->p++, rest->n--, f.n++;
	return f;
}

/* All of the text as a number of this base. -EINVAL where it is empty, has another byte, or is above max. */
static int number_parse(struct span s, unsigned base, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s.n)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned d = 99;

		if (isdigit(c))
			d = c - (unsigned)'0';
		else if (isxdigit(c))
			d = (unsigned)tolower(c) - 'a' + 10;
		if (d >= base || v > (max - d) / base)
			return -EINVAL;
		v = v * base + d;
	}
	*ret = v;
	return 0;
}

static int hex_bytes(struct span s, uint8_t *out, size_t n)
{
	uint64_t v;

	if (s.n != n * 2)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (number_parse((struct span){ s.p + 2 * i, 2 }, 16, 255, &v) < 0)
			return -EINVAL;
		out[i] = (uint8_t)v;
	}
	return 0;
}

/* The kernel prints addresses as words in host order: bytes of each word are turned on a little-endian machine. */
static void words_to_network(uint8_t *p, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	for (size_t i = 0; i + 4 <= n; i += 4) {
		uint8_t w[4] = { p[i + 3], p[i + 2], p[i + 1], p[i] };

		memcpy(p + i, w, 4);
	}
#endif
}

/* "0100007F:1F90", or the same of IPv6. */
static int parse_end(struct span s, uint8_t addr[16], uint16_t *ret_port)
{
	const char *colon = memchr(s.p, ':', s.n);
	struct span text, port;
	uint64_t v;

	if (!colon)
		return -EINVAL;
	text = (struct span){ s.p, (size_t)(colon - s.p) };
	port = (struct span){ colon + 1, s.n - text.n - 1 };
	if (text.n == 8) {
		memset(addr, 0, 10);
		addr[10] = addr[11] = 0xff;
		if (hex_bytes(text, addr + 12, 4) < 0)
			return -EINVAL;
		words_to_network(addr + 12, 4);
	} else {
		if (hex_bytes(text, addr, 16) < 0)
			return -EINVAL;
		words_to_network(addr, 16);
	}
	if (number_parse(port, 16, 65535, &v) < 0)
		return -EINVAL;
	*ret_port = (uint16_t)v;
	return 0;
}

int procfs_parse_socket(struct span line, struct procfs_socket *ret)
{
	/* sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ... */
	struct procfs_socket s = { 0 };
	struct span f[10];
	uint64_t state;

	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		f[i] = field_next(&line);
		if (!f[i].n)
			return -EINVAL;
	}
	if (span_eq(f[0], SPAN("sl")))
		return 0;
	if (parse_end(f[1], s.local, &s.lport) < 0 || parse_end(f[2], s.remote, &s.rport) < 0 || number_parse(f[3], 16, 255, &state) < 0 ||
	    number_parse(f[9], 10, UINT64_MAX, &s.inode) < 0)
		return -EINVAL;
	s.state = (uint8_t)state;
	*ret = s;
	return 1;
}

int procfs_parse_tcp(struct span line, struct procfs_listen *ret)
{
	struct procfs_socket s;
	int r = procfs_parse_socket(line, &s);

	if (r <= 0)
		return r;
	if (s.state != PROCFS_LISTEN || !s.lport)
		return 0;
	*ret = (struct procfs_listen){ .port = s.lport, .inode = s.inode };
	memcpy(ret->addr, s.local, 16);
	return 1;
}

/* mountinfo writes blank, tab, newline and backslash as three octal digits. */
static int unescape(struct span s, char *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		uint64_t v;

		if (c == '\\' && s.n - i >= 4 && number_parse((struct span){ s.p + i + 1, 3 }, 8, 255, &v) == 0 && v) {
			c = (char)v;
			i += 3;
		}
		if (!c || n + 1 >= cap)
			return -EINVAL;
		out[n++] = c;
	}
	out[n] = '\0';
	return n ? 0 : -EINVAL;
}

int procfs_parse_mount(struct span line, struct procfs_mount *ret)
{
	/* id parent major:minor root point options [optional...] - fstype source superoptions */
	struct span root = { 0 }, point = { 0 }, f;

	for (int i = 0; i < 6; i++) {
		f = field_next(&line);
		if (!f.n)
			return -EINVAL;
		if (i == 3)
			root = f;
		else if (i == 4)
			point = f;
	}
	do {
		f = field_next(&line);
		if (!f.n)
			return -EINVAL;
	} while (!span_eq(f, SPAN("-")));
	f = field_next(&line);
	if (unescape(root, ret->root, sizeof(ret->root)) < 0 || unescape(point, ret->point, sizeof(ret->point)) < 0 ||
	    unescape(f, ret->fstype, sizeof(ret->fstype)) < 0)
		return -EINVAL;
	return 0;
}

/*
 * A field of /proc/PID/stat by its number there, 3 (the state) or more: pid (name) state ppid ... The name is free text, so look
 * for its last bracket. Empty where there is none.
 */
static struct span stat_field(struct span text, unsigned number)
{
	const char *p = text.n ? memrchr(text.p, ')', text.n) : NULL;
	struct span rest, f = { 0 };

	if (!p)
		return f;
	rest = (struct span){ p + 1, text.n - (size_t)(p + 1 - text.p) };
	for (unsigned i = 3; i <= number; i++)
		f = field_next(&rest);
	return f;
}

int procfs_parse_ppid(struct span text, int *ret_ppid)
{
	uint64_t v;

	if (stat_field(text, 3).n != 1 || number_parse(stat_field(text, 4), 10, INT32_MAX, &v) < 0)
		return -EINVAL;
	*ret_ppid = (int)v;
	return 0;
}

int procfs_parse_start(struct span text, uint64_t *ret_ticks)
{
	if (stat_field(text, 3).n != 1)
		return -EINVAL;
	return number_parse(stat_field(text, 22), 10, UINT64_MAX, ret_ticks);
}

int procfs_parse_inet6(struct span line, uint8_t ret_addr[16])
{
	uint8_t addr[16];
	int r = hex_bytes(field_next(&line), addr, sizeof(addr));

	if (r < 0)
		return r;
	memcpy(ret_addr, addr, sizeof(addr));
	return 0;
}

int procfs_parse_link(struct span link, const char *kind, uint64_t *ret_inode)
{
	size_t n = strlen(kind);

	if (link.n < n + 4 || memcmp(link.p, kind, n) || link.p[n] != ':' || link.p[n + 1] != '[' || link.p[link.n - 1] != ']')
		return -EINVAL;
	return number_parse((struct span){ link.p + n + 2, link.n - n - 3 }, 10, UINT64_MAX, ret_inode);
}

/*
 * The table of known servers. A row matches where one of the first words of the command line (the
 * program, or what an interpreter runs: a script, or the module after -m) has this base name, or
 * where the executable has. `arg` must be found too, inside any argument, where it is given.
 */
static const struct known {
	const char *word; /* base name; a '*' at its end takes any rest */
	const char *arg;  /* NULL: not needed */
	const char *name;
	bool inner;
} known[] = {
	{ "vllm", NULL, "vllm", false },
	{ "vllm-router*", NULL, "vllm-router", false },
	{ "vllm_router*", NULL, "vllm-router", false },
	{ "vllm.entrypoints.*", NULL, "vllm", false },
	{ "VLLM::EngineCore*", NULL, "vllm", true },
	{ "VLLM::Worker*", NULL, "vllm", true },
	{ "VLLM::DPCoord*", NULL, "vllm", true },
	{ "VLLM::*", NULL, "vllm", false },
	{ "sglang", NULL, "sglang", false },
	{ "sglang::scheduler*", NULL, "sglang", true },
	{ "sglang::detokenizer*", NULL, "sglang", true },
	{ "sglang::data_parallel*", NULL, "sglang", true },
	{ "sglang::*", NULL, "sglang", false },
	{ "sglang.*", NULL, "sglang", false },
	{ "sglang_router*", NULL, "sglang", false },
	{ "sglang-router*", NULL, "sglang", false },
	{ "sgl-router*", NULL, "sglang", false },
	{ "text-generation-launcher", NULL, "tgi", false },
	{ "text-generation-router*", NULL, "tgi", false },
	{ "text-generation-server", NULL, "tgi", true },
	{ "text-embeddings-router", NULL, "tei", false },
	{ "llama-server", NULL, "llama.cpp", false },
	{ "llama-swap", NULL, "llama-swap", false },
	{ "llama_cpp.server", NULL, "llama-cpp-python", false },
	{ "ollama", "runner", "ollama", true },
	{ "ollama_llama_server", NULL, "ollama", true },
	{ "ollama", "serve", "ollama", false },
	{ "tritonserver", NULL, "triton", false },
	{ "triton_python_backend_stub", NULL, "triton", true },
	{ "trtllm-serve", NULL, "tensorrt-llm", false },
	{ "lmdeploy", NULL, "lmdeploy", false },
	{ "lmdeploy.*", NULL, "lmdeploy", false },
	{ "local-ai", NULL, "localai", false },
	{ "localai", NULL, "localai", false },
	{ "llama-cpp-*", "--addr", "localai", true },
	{ "litellm", NULL, "litellm", false },
	{ "litellm.*", NULL, "litellm", false },
	{ "mistralrs-server", NULL, "mistral.rs", false },
	{ "mistralrs", NULL, "mistral.rs", false },
	{ "koboldcpp*", NULL, "koboldcpp", false },
	{ "tabbyapi", NULL, "tabbyapi", false },
	{ "xinference*", NULL, "xinference", false },
	{ "fastchat.serve.*", NULL, "fastchat", false },
	{ "aphrodite*", NULL, "aphrodite", false },
	{ "llamafile*", NULL, "llamafile", false },
	{ "infinity_emb", NULL, "infinity", false },
	/* Ray's actors: those of Ray Serve's proxy answer HTTP, all others (vLLM's and SGLang's workers on several hosts) work for it */
	{ "ray::ProxyActor*", NULL, "ray-serve", false },
	{ "ray::HTTPProxyActor*", NULL, "ray-serve", false },
	{ "ray::*", NULL, "ray", true },
	/* a general web server: only where it is told to serve one of these */
	{ "uvicorn", "vllm", "uvicorn", false },
	{ "uvicorn", "sglang", "uvicorn", false },
	{ "uvicorn", "llama", "uvicorn", false },
	{ "uvicorn", "litellm", "uvicorn", false },
	{ "uvicorn", "openai", "uvicorn", false },
	{ "gunicorn", "vllm", "uvicorn", false },
	{ "gunicorn", "litellm", "litellm", false },
	{ "gunicorn:", "vllm", "uvicorn", false }, /* as setproctitle writes it */
	{ "gunicorn:", "litellm", "litellm", false },
	{ "hypercorn", "litellm", "litellm", false },
};

/* What runs a script that is named after it. */
static const char *const interpreters[] = { "python*", "pypy*", "node", "env", "uv", "numactl", "nice", "taskset", "ld-linux*", "bash", "sh", "dash" };

static bool word_match(const char *pattern, struct span word)
{
	size_t n = strlen(pattern);

	if (n && pattern[n - 1] == '*')
		return word.n >= n - 1 && !memcmp(word.p, pattern, n - 1);
	return word.n == n && !memcmp(word.p, pattern, n);
}

static struct span base_name(struct span path)
{
	const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;

	if (slash)
		path.n -= (size_t)(slash + 1 - path.p), path.p = slash + 1;
	if (path.n > 3 && !memcmp(path.p + path.n - 3, ".py", 3))
		path.n -= 3;
	return path;
}

#define ARGS_LOOKED_AT 64 /* options stand early; a command line may be 2 MB */

/* Splits at NUL. A title written by setproctitle() is one argument with blanks in it: its first word counts. */
static size_t args_split(struct span cmdline, struct span *args, size_t max)
{
	size_t n = 0;

	while (cmdline.n && n < max) {
		const char *end = memchr(cmdline.p, '\0', cmdline.n);
		size_t len = end ? (size_t)(end - cmdline.p) : cmdline.n;

		if (len)
			args[n++] = (struct span){ cmdline.p, len };
		cmdline.n -= MIN(cmdline.n, len + 1);
		cmdline.p += len + (end ? 1 : 0);
	}
	return n;
}

static uint16_t port_hint(const struct span *args, size_t n)
{
	static const char *const names[] = { "--port", "--http-port" };
	uint64_t v;

	for (size_t i = 1; i < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			size_t len = strlen(names[k]);

			if (args[i].n < len || memcmp(args[i].p, names[k], len))
				continue;
			if (args[i].n == len && i + 1 < n && number_parse(args[i + 1], 10, 65535, &v) == 0)
				return (uint16_t)v;
			if (args[i].n > len && args[i].p[len] == '=' &&
			    number_parse((struct span){ args[i].p + len + 1, args[i].n - len - 1 }, 10, 65535, &v) == 0)
				return (uint16_t)v;
		}
	return 0;
}

static bool any_arg_has(const struct span *args, size_t n, const char *needle)
{
	struct span title = n ? args[0] : (struct span){ 0 };

	field_next(&title); /* what follows the first word of a title is told like arguments */
	if (title.n && memmem(title.p, title.n, needle, strlen(needle)))
		return true;
	for (size_t i = 1; i < n; i++)
		if (memmem(args[i].p, args[i].n, needle, strlen(needle)))
			return true;
	return false;
}

bool procfs_match_server(struct span exe, struct span cmdline, struct procfs_server *ret)
{
	struct span args[ARGS_LOOKED_AT], words[4];
	size_t n, count = 0, i = 0;

	n = args_split(cmdline, args, ARRAY_SIZE(args));
	if (!n)
		return false; /* a kernel thread or a zombie */

	/* Walk over interpreters and their options to the name of what really runs. */
	words[count++] = base_name(exe);
	while (i < n && count < ARRAY_SIZE(words)) {
		struct span title = args[i], word = base_name(field_next(&title));
		bool interpreter = false;

		words[count++] = word;
		for (size_t k = 0; k < ARRAY_SIZE(interpreters); k++)
			interpreter |= word_match(interpreters[k], word);
		if (!interpreter)
			break;
		for (i++; i < n && args[i].n && args[i].p[0] == '-'; i++) {
			if (span_eq(args[i], SPAN("-c")))
				i = n; /* code, not a name */
			else if (span_eq(args[i], SPAN("-m"))) {
				i++;
				break;
			}
		}
	}
	for (const struct known *k = known; k < known + ARRAY_SIZE(known); k++)
		for (size_t w = 0; w < count; w++) {
			if (!word_match(k->word, words[w]) || (k->arg && !any_arg_has(args, n, k->arg)))
				continue;
			*ret = (struct procfs_server){ k->name, k->inner, port_hint(args, n) };
			return true;
		}
	return false;
}
