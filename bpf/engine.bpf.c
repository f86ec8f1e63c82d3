/*
 * engine.bpf.c - tokens that an engine really computes: uprobes at the functions that take a batch. One program for
 * each place where the number of tokens may stand when the function is entered; src/capture/engine.c has the table.
 */
#include <linux/ptrace.h>

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "weir/engine.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_ENGINE_PROCESSES);
	__type(key, struct weir_engine_key);
	__type(value, struct weir_engine);
} weir_engines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_ENGINE_STAT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} weir_engine_st SEC(".maps");

static void lost(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&weir_engine_st, &why);

	if (n)
		(*n)++;
}

static void count(void *ctx, const void *at)
{
	struct weir_engine_key key = { .tgid = (__u32)(bpf_get_current_pid_tgid() >> 32), .file = (__u32)bpf_get_attach_cookie(ctx) };
	struct weir_engine *e = bpf_map_lookup_elem(&weir_engines, &key);
	__s32 n = 0;

	if (bpf_probe_read_user(&n, sizeof(n), at) || n < 0 || n > WEIR_ENGINE_BATCH_MAX) {
		lost(WEIR_ENGINE_UNREADABLE);
		return;
	}
	if (!e) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();
		const struct weir_engine first = { .parent = (__u32)BPF_CORE_READ(task, real_parent, tgid) };

		/* two threads may do this at once: the second finds the first's */
		bpf_map_update_elem(&weir_engines, &key, &first, BPF_NOEXIST);
		e = bpf_map_lookup_elem(&weir_engines, &key);
		if (!e) {
			lost(WEIR_ENGINE_FULL);
			return;
		}
	}
	__sync_fetch_and_add(&e->calls, 1);
	__sync_fetch_and_add(&e->tokens, (__u64)n);
}

/*
 * f(context, struct batch) with n_tokens as the structure's first field, which is larger than two registers: on x86-64 a copy lies on the
 * stack above the return address; on arm64 the second register points to one.
 */
SEC("uprobe")
int on_batch_value(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	count(ctx, (const void *)(PT_REGS_SP(ctx) + 8));
#else
	count(ctx, (const void *)PT_REGS_PARM2(ctx));
#endif
	return 0;
}

/* Method f(batch reference) with n_tokens as the structure's second field of four bytes. */
SEC("uprobe")
int on_batch_second(struct pt_regs *ctx)
{
	count(ctx, (const void *)(PT_REGS_PARM2(ctx) + 4));
	return 0;
}
