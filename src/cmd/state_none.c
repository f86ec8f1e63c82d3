/*
 * An engine that keeps nothing: what stands in for the functions of detect_state.h in an engine without them. Weak, so that
 * the engine's own take their place when they are there; this file goes then.
 */
#include "detect/detect_state.h"

__attribute__((weak)) int detect_export(struct detect *d, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx)
{
	(void)d;
	(void)all;
	(void)put;
	(void)ctx;
	return -ENOSYS;
}

__attribute__((weak)) int detect_import(struct detect *d, const struct detect_state_item *it)
{
	(void)d;
	(void)it;
	return -ENOSYS;
}

__attribute__((weak)) int detect_label(struct detect *d, const struct detect_label *l)
{
	(void)d;
	(void)l;
	return -ENOSYS;
}
