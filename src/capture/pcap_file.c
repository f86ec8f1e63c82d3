#include "capture/pcap_file.h"

#include <dlfcn.h>
#include <pcap/pcap.h>

#define LIBRARY "libpcap.so.0.8"
#define PACKAGE "libpcap0.8"
#define SECONDS_MAX UINT64_C(9999999999) /* the year 2286; 64 bits of nanoseconds reach to 2554 */

struct pcap_file {
	pcap_t *p;
};

struct pcap_out {
	pcap_t *dead;
	pcap_dumper_t *d;
	FILE *f;
	int error;
};

/* Only what is declared in libpcap's own header: the types are checked by the compiler. */
static struct {
	void *handle;
	__typeof__(&pcap_fopen_offline_with_tstamp_precision) fopen_offline;
	__typeof__(&pcap_next_ex) next;
	__typeof__(&pcap_datalink) datalink;
	__typeof__(&pcap_datalink_val_to_name) link_name;
	__typeof__(&pcap_snapshot) snapshot;
	__typeof__(&pcap_geterr) error;
	__typeof__(&pcap_close) close;
	__typeof__(&pcap_open_dead_with_tstamp_precision) open_dead;
	__typeof__(&pcap_dump_fopen) dump_fopen;
	__typeof__(&pcap_dump) dump;
	__typeof__(&pcap_dump_flush) dump_flush;
	__typeof__(&pcap_dump_close) dump_close;
} lib;

static int library_load(void)
{
	const struct {
		const char *name;
		void *to;
	} wanted[] = {
		{ "pcap_fopen_offline_with_tstamp_precision", &lib.fopen_offline },
		{ "pcap_next_ex", &lib.next },
		{ "pcap_datalink", &lib.datalink },
		{ "pcap_datalink_val_to_name", &lib.link_name },
		{ "pcap_snapshot", &lib.snapshot },
		{ "pcap_geterr", &lib.error },
		{ "pcap_close", &lib.close },
		{ "pcap_open_dead_with_tstamp_precision", &lib.open_dead },
		{ "pcap_dump_fopen", &lib.dump_fopen },
		{ "pcap_dump", &lib.dump },
		{ "pcap_dump_flush", &lib.dump_flush },
		{ "pcap_dump_close", &lib.dump_close },
	};
	void *handle;

	if (lib.handle)
		return 0;
	handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return -ENOSYS;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		void *symbol = dlsym(handle, wanted[i].name);

		if (!symbol) {
			dlclose(handle);
			return -ENOSYS;
		}
		memcpy(wanted[i].to, &symbol, sizeof(symbol));
	}
	lib.handle = handle; /* stays */
	return 0;
}

bool pcap_file_magic(const uint8_t magic[PCAP_MAGIC_BYTES])
{
	/* pcap with micro- and nanoseconds, in both byte orders, then pcapng */
	static const uint8_t known[][PCAP_MAGIC_BYTES] = {
		{ 0xa1, 0xb2, 0xc3, 0xd4 }, { 0xd4, 0xc3, 0xb2, 0xa1 }, { 0xa1, 0xb2, 0x3c, 0x4d }, { 0x4d, 0x3c, 0xb2, 0xa1 }, { 0x0a, 0x0d, 0x0d, 0x0a },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (memcmp(magic, known[i], PCAP_MAGIC_BYTES) == 0)
			return true;
	return false;
}

int pcap_file_open(FILE *f, struct pcap_file **ret, char why[PCAP_WHY_MAX])
{
	char error[PCAP_ERRBUF_SIZE] = "";
	struct pcap_file *p;

	if (library_load() < 0) {
		snprintf(why, PCAP_WHY_MAX, "packet captures are read with " LIBRARY ", which is not installed (Debian, Ubuntu: apt install " PACKAGE ")");
		fclose(f);
		return -ENOSYS;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		snprintf(why, PCAP_WHY_MAX, "%s", strerror(ENOMEM));
		fclose(f);
		return -ENOMEM;
	}
	p->p = lib.fopen_offline(f, PCAP_TSTAMP_PRECISION_NANO, error);
	if (!p->p) {
		snprintf(why, PCAP_WHY_MAX, "%s", error);
		fclose(f);
		free(p);
		return -EBADMSG;
	}
	*ret = p;
	return 0;
}

struct pcap_file *pcap_file_close(struct pcap_file *p)
{
	if (p)
		lib.close(p->p);
	free(p);
	return NULL;
}

int pcap_file_link(const struct pcap_file *p)
{
	return lib.datalink(p->p);
}

const char *pcap_file_link_name(const struct pcap_file *p)
{
	const char *name = lib.link_name(lib.datalink(p->p));

	return name ? name : "unknown";
}

int pcap_file_next(struct pcap_file *p, struct pcap_frame *ret, char why[PCAP_WHY_MAX])
{
	struct pcap_pkthdr *h;
	const u_char *data;
	int r = lib.next(p->p, &h, &data);
	uint64_t seconds;

	if (r == PCAP_ERROR_BREAK)
		return 0;
	if (r != 1) {
		snprintf(why, PCAP_WHY_MAX, "%s", lib.error(p->p));
		return -EBADMSG;
	}
	/* Files hold any 64 bits. tv_usec counts nanoseconds here. */
	seconds = h->ts.tv_sec > 0 ? MIN((uint64_t)h->ts.tv_sec, SECONDS_MAX) : 0;
	ret->ts_ns = MAX(seconds * UINT64_C(1000000000) + ((uint64_t)h->ts.tv_usec % UINT64_C(1000000000)), UINT64_C(1));
	ret->data = data;
	ret->have = h->caplen;
	ret->len = MAX(h->len, h->caplen);
	return 1;
}

int pcap_out_open(FILE *f, const struct pcap_file *like, struct pcap_out **ret)
{
	struct pcap_out *o = calloc(1, sizeof(*o));

	if (o)
		o->dead = lib.open_dead(lib.datalink(like->p), lib.snapshot(like->p), PCAP_TSTAMP_PRECISION_NANO);
	if (o && o->dead)
		o->d = lib.dump_fopen(o->dead, f);
	if (!o || !o->d) {
		fclose(f);
		if (o && o->dead)
			lib.close(o->dead);
		free(o);
		return -ENOMEM;
	}
	o->f = f;
	*ret = o;
	return 0;
}

int pcap_out_frame(struct pcap_out *o, const struct pcap_frame *frame)
{
	struct pcap_pkthdr h = {
		.ts = { .tv_sec = (time_t)(frame->ts_ns / UINT64_C(1000000000)), .tv_usec = (suseconds_t)(frame->ts_ns % UINT64_C(1000000000)) },
		.caplen = frame->have,
		.len = frame->len,
	};

	errno = 0;
	lib.dump((u_char *)o->d, &h, frame->data);
	if (!o->error && ferror(o->f))
		o->error = errno ? -errno : -EIO;
	return o->error;
}

int pcap_out_close(struct pcap_out *o)
{
	int r;

	if (!o)
		return 0;
	if (lib.dump_flush(o->d) != 0 && !o->error)
		o->error = errno ? -errno : -EIO;
	if (!o->error && fsync(fileno(o->f)) < 0 && errno != EINVAL && errno != EBADF) /* a pipe, a stream in memory */
		o->error = -errno;
	r = o->error;
	lib.dump_close(o->d);
	lib.close(o->dead);
	free(o);
	return r;
}
