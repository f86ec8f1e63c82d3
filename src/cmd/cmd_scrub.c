/* weir scrub - a packet capture that can be shown: the same packets without prompts, answers and keys. */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/scrub_pcap.h"

static const char usage_text[] =
	"usage: weir scrub [OPTION...] IN OUT\n"
	"\n"
	"Copies a packet capture (pcap, pcapng) with the same packets, times and lengths, but with filler for all that is not known to be\n"
	"harmless: prompts, answers, keys, cookies, query strings, compressed bodies, TLS, HTTP/2. `weir replay` finds the same requests in both.\n"
	"\n"
	"  --addresses            replace IP and MAC addresses, too\n"
	"  --help\n"
	"\n"
	"What stays is listed in docs/captures.md. Look at OUT before you hand it on.\n"
	"Exit status: 0 done, 1 failed on the way, 2 bad option or unreadable file.\n";

static char beside[4096]; /* what is written, until it takes its place */

static void on_signal(int sig)
{
	unlink(beside);
	raise(sig); /* by its default from now on */
}

/* Whoever stops us finds no half file. */
static void watch_signals(void)
{
	static const int stops[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ };
	struct sigaction was, sa = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (sigaction(stops[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
			sigaction(stops[i], &sa, NULL);
}

/* Beside OUT, so that it can take its place. */
static FILE *open_beside(const char *path, char *ret_name, size_t room)
{
	int fd, n = snprintf(ret_name, room, "%s.XXXXXX", path);
	FILE *f;

	if (n < 0 || (size_t)n >= room) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	fd = mkostemp(ret_name, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return NULL;
	f = fdopen(fd, "wb");
	if (!f) {
		close(fd);
		unlink(ret_name);
	}
	return f;
}

static bool is_same(FILE *in, const char *path)
{
	struct stat a, b;

	return fstat(fileno(in), &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A device or a pipe would be replaced, not written to. */
static bool is_special(const char *path)
{
	struct stat s;

	return stat(path, &s) == 0 && !S_ISREG(s.st_mode);
}

static void say(const char *path, const struct scrub_pcap_stats *s)
{
	log_info("%s: %" PRIu64 " packets, %" PRIu64 " bytes of payload, %" PRIu64 " of them kept or of kept shape", path, s->frames, s->payload_bytes, s->kept_bytes);
	if (s->not_tcp || s->tls || s->hurried || s->addresses_shared)
		log_info("%s: blanked: %" PRIu64 " packets that are not TCP, %" PRIu64 " connections in TLS, %" PRIu64
			 " packets that could not wait for what comes before them; %" PRIu64 " addresses share one", path, s->not_tcp, s->tls, s->hurried, s->addresses_shared);
}

static int scrub_file(const char *from, const char *to, bool addresses)
{
	struct scrub_pcap_stats stats = { 0 };
	char why[512];
	FILE *in = fopen(from, "rbe"), *out;
	int r;

	if (!in) {
		log_error("cannot read %s: %s", from, strerror(errno));
		return EXIT_USAGE;
	}
	if (is_same(in, to)) {
		log_error("%s is the capture itself: name another file", to);
		fclose(in);
		return EXIT_USAGE;
	}
	if (is_special(to)) {
		log_error("%s is no regular file", to);
		fclose(in);
		return EXIT_USAGE;
	}
	watch_signals();
	out = open_beside(to, beside, sizeof(beside));
	if (!out) {
		log_error("cannot write %s: %s", to, strerror(errno));
		fclose(in);
		return EXIT_USAGE;
	}
	r = scrub_pcap(in, out, addresses, &stats, why);
	if (r == 0 && rename(beside, to) < 0) {
		r = -errno;
		snprintf(why, sizeof(why), "%s", strerror(-r));
	}
	if (r < 0) {
		unlink(beside);
		log_error("%s: %s", r == -EBADMSG ? from : to, why);
		return r == -EBADMSG || r == -ENOSYS ? EXIT_USAGE : 1;
	}
	if (*why)
		log_warning("%s: ends early: %s", from, why);
	say(to, &stats);
	return 0;
}

int cmd_scrub(int argc, char **argv)
{
	static const struct option options[] = { { "addresses", no_argument, NULL, 'a' }, { "help", no_argument, NULL, 'h' }, { 0 } };
	bool addresses = false;
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			addresses = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		default:
			log_error("scrub: unknown option %s (weir scrub --help)", argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		log_error("scrub: wants two files, IN and OUT (weir scrub --help)");
		return EXIT_USAGE;
	}
	return scrub_file(argv[optind], argv[optind + 1], addresses);
}
