/*
 * calendar_file.h - a calendar out of JSON lines (man weir-replay):
 *
 *   {"name":"launch","start":"2026-03-01T09:00:00","end":"2026-03-01T12:00:00","repeat":"none","zone":"Europe/Berlin",
 *    "scope":{"kind":"global","value":""},"classes":["flash_crowd"],"note":"told to the press"}
 *
 * `name`, `start` and `end` are needed. Reads the zones' rules through the C library, so it is called before there are threads and before
 * the file system is given up.
 */
#ifndef WEIR_CMD_CALENDAR_FILE_H
#define WEIR_CMD_CALENDAR_FILE_H

#include "detect/calendar.h"

#define CALENDAR_FILE_MAX (4u << 20) /* bytes: a thousand for each entry */
#define CALENDAR_NAME_MAX 128        /* bytes */
#define CALENDAR_WHY 512

/* 0; -EINVAL: `why` says FILE:LINE: what; other negative errno: `why` says what of the file. */
int calendar_file_read(const char *path, struct calendar **ret, char why[CALENDAR_WHY]);
/* The same from memory; `name` stands for the file in `why`. */
int calendar_file_parse(const char *name, struct span text, struct calendar **ret, char why[CALENDAR_WHY]);

#endif
