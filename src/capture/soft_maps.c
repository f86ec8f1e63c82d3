#include "capture/soft_maps.h"

#include <bpf/bpf.h>

static int table_of(void *ctx, const struct weir_client_key *key)
{
	const struct soft_maps *m = ctx;

	return key->flags & WEIR_CLIENT_OTHER ? m->others_fd : m->clients_fd;
}

static int client_load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	return bpf_map_lookup_elem(table_of(ctx, key), key, ret);
}

static int client_make(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	return bpf_map_update_elem(table_of(ctx, key), key, value, BPF_NOEXIST);
}

static int client_save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	return bpf_map_update_elem(table_of(ctx, key), key, value, BPF_EXIST);
}

/* The tap itself counts in other elements than the meter does. */
static void stat_save(void *ctx, enum weir_stat which, uint64_t value)
{
	const struct soft_maps *m = ctx;
	__u32 key = (__u32)which;

	bpf_map_update_elem(m->stats_fd, &key, &value, BPF_ANY);
}

static bool is_local(void *ctx, const uint8_t addr[16])
{
	const struct soft_maps *m = ctx;
	__u8 value;

	return bpf_map_lookup_elem(m->addrs_fd, addr, &value) == 0;
}

int soft_maps_open(const struct soft_maps *maps, const struct soft_opts *opts, struct soft **ret)
{
	struct soft_opts o = *opts;

	o.store = (struct soft_store){
		.load = client_load,
		.make = client_make,
		.save = client_save,
		.stat = stat_save,
		.is_local = is_local,
		.ctx = (void *)maps,
	};
	return soft_open(&o, ret);
}
