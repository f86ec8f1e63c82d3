/*
 * fields.h - an event as flat names and values, for sinks that have no nested objects (journald, line
 * protocols, OTLP attributes).
 */
#ifndef WEIR_SINK_FIELDS_H
#define WEIR_SINK_FIELDS_H

#include "detect/anomaly.h"

struct sink_field {
	const char *name; /* snake_case; a sink adds its own prefix and case */
	/* Appends the value; appends nothing where the event has none. The text is printable (text.h). */
	void (*put)(struct str *out, const struct anomaly *a);
};

extern const struct sink_field sink_fields[]; /* ends with a NULL name */

#endif
