/*
 * tls.h - what bpf/tls.bpf.c keeps about TLS libraries and the threads that call them.
 *
 * A TLS object (SSL *, gnutls_session_t) is an address in one process. The hook learns its socket from the socket calls of the
 * thread that uses it, and from then on feeds what is read and written to the meter, as that connection's bytes.
 */
#ifndef WEIR_TLS_H
#define WEIR_TLS_H

#include "weir/abi.h"

#define WEIR_TLS_OBJECTS 65536 /* TLS objects followed at once: as many as connections; taken as they come, not in advance */
#define WEIR_TLS_THREADS 32768 /* threads that have called a TLS library */
#define WEIR_TLS_PIDS 4096     /* processes of watched servers, their children included */
#define WEIR_TLS_ANCESTORS 4   /* how far up a process looks for a watched one */
#define WEIR_TLS_SMALL 256     /* reads are gathered up to here */
#define WEIR_TLS_SMALL_READ 16 /* a read as short as this is one of a program that reads heads byte by byte */
#define WEIR_TLS_RECORD 16384  /* plaintext of one record (RFC 8446 section 5.1) */
#define WEIR_TLS_OVERHEAD 22   /* what a record adds at least: header 5, content type 1, tag 16 */

struct weir_tls_key {
	__u64 object;
	__u32 tgid, pad;
};

/* weir_tls_object.flags */
#define WEIR_TLS_FOREIGN 1 /* the socket is none of a watched port: an outgoing call of the server */
#define WEIR_TLS_INSIDE 2  /* the library itself reads and writes the socket: a call tells how much of it went out */
#define WEIR_TLS_AGAIN 4   /* ... and nothing more went out: the same bytes will be written again */
#define WEIR_TLS_ONE_RECORD 8 /* a write takes one record at most (GnuTLS) */

struct weir_tls_object {
	struct weir_conn_key key; /* of the connection, where conn is set */
	__u64 conn;               /* its id; 0: not known yet */
	__u64 sock;               /* the kernel's socket, to compare with */
	__u64 library;            /* the attachment that serves it, so that one library attached twice is metered once */
	__u64 last_ns;
	__u32 wrote, sent;        /* the last write: bytes of plaintext, and what the socket took since */
	__u32 ahead;              /* bytes metered that the library did not take: they will come again */
	__u32 flags;
	/* the call under way, here because the stack of the kernel's side is short: where bytes come from now, and what was brought */
	__u64 from[2], brought;
	__u32 brought_len;
	__u16 brought_dir, ready;
	__u32 pad;
	__u32 small;              /* bytes gathered of short reads */
	__u8 gathered[WEIR_TLS_SMALL];
};

/* What a probe is on; in its cookie, above the number of the library. The first ones are calls whose return is awaited. */
enum weir_tls_probe {
	WEIR_TLS_NONE,
	WEIR_TLS_READ,      /* (object, buffer, room): count */
	WEIR_TLS_READ_EX,   /* (object, buffer, room, size_t *count): 1 */
	WEIR_TLS_HANDSHAKE, /* (object) */
	WEIR_TLS_RETURN,
	WEIR_TLS_WRITE,        /* (object, buffer, int count) */
	WEIR_TLS_WRITE_EX,     /* (object, buffer, size_t count) */
	WEIR_TLS_RECORD_WRITE, /* the same, one record at most */
	WEIR_TLS_FREE,         /* (object) */
};
#define WEIR_TLS_PROBE_SHIFT 48
#define WEIR_TLS_LIBRARY_MASK ((1ull << WEIR_TLS_PROBE_SHIFT) - 1)

struct weir_tls_thread {
	__u64 object, buf, got; /* the call under way; got: where the count will be written (SSL_read_ex) */
	__u64 fresh;            /* socket that was read and that no TLS object has consumed yet */
	__u64 wrote;            /* object of the last write, while the sends after it are of interest */
	__u64 last_ns;
	__u32 wrote_len;
	__u8 call;              /* enum weir_tls_probe */
	__u8 mixed;             /* two objects wrote since the last socket call: which send is whose is not clear */
	__u8 pad[2];
};

#endif
