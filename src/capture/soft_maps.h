/*
 * soft_maps.h - the meter in user space, with its counters in the maps of bpf/tap.bpf.c.
 */
#ifndef WEIR_CAPTURE_SOFT_MAPS_H
#define WEIR_CAPTURE_SOFT_MAPS_H

#include "capture/soft.h"

struct soft_maps {
	int clients_fd, others_fd, stats_fd, addrs_fd; /* the caller's; they outlive the meter */
};

/* soft_open() with a store on these maps; opts->store is not looked at. maps is kept by address. */
int soft_maps_open(const struct soft_maps *maps, const struct soft_opts *opts, struct soft **ret);

#endif
