/*
 * soft_helpers.h - what bpf/meter.bpf.c needs to be compiled for user space: the macros of its maps and
 * the kernel's helpers by the kernel's names. Included by soft.c only.
 */
#ifndef WEIR_CAPTURE_SOFT_HELPERS_H
#define WEIR_CAPTURE_SOFT_HELPERS_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>

/* The headers that the meter includes are for the other side: kernel types by CO-RE, helpers by number. */
#define WEIR_BPF_KERNEL_H
#define __BPF_CORE_READ_H__
#define __BPF_HELPERS__

#define WEIR_SOFT

#define asm __asm__
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name

static void *bpf_map_lookup_elem(const void *map, const void *key);
static long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags);
static long bpf_map_delete_elem(const void *map, const void *key);
static void *bpf_ringbuf_reserve(const void *ring, __u64 size, __u64 flags);
static void bpf_ringbuf_submit(void *record, __u64 flags);
static long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 off, void *to, __u32 n);
static __u64 bpf_ktime_get_ns(void);

/* Records are handed over at once: the ring is never full. */
static inline __u64 bpf_ringbuf_query(const void *ring, __u64 flags)
{
	(void)ring;
	(void)flags;
	return 0;
}

static inline long bpf_loop(__u32 times, void *fn, void *ctx, __u64 flags)
{
	long (*step)(__u32, void *) = (long (*)(__u32, void *))fn;
	__u32 i = 0;

	(void)flags;
	while (i < times)
		if (step(i++, ctx))
			break;
	return i;
}

#endif
