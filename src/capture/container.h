/*
 * container.h - what the runtime's own files say of a container: its name, its image.
 *
 * Read by the discovery helper; bounded, and taken for hostile (an image chooses its labels). An unknown runtime, or files
 * that are elsewhere, leave both empty: the id has to do then.
 */
#ifndef WEIR_CAPTURE_CONTAINER_H
#define WEIR_CAPTURE_CONTAINER_H

#include "capture/procfs.h"

#define CONTAINER_IMAGE_MAX 128

struct container_facts {
	char name[PROCFS_NAME_MAX];      /* "vllm" (docker, podman), "prod/vllm/server" (namespace, workload and container of a pod) */
	char image[CONTAINER_IMAGE_MAX]; /* as it was named when the container was made */
};

/*
 * root: NULL for "/"; a folder in tests. conmon: the command line of podman's monitor, NUL between arguments, where there is one.
 * false: nothing is known.
 */
bool container_facts(const char *root, const struct procfs_workload *w, struct span conmon, struct container_facts *ret);

#endif
