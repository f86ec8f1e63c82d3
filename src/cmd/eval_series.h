/*
 * eval_series.h - weir eval --series: the scores of one univariate series, for NAB and for whoever has such a file.
 *
 * Reads `timestamp,value` lines (a header, CRLF and further columns are allowed; "-" is standard input) and prints
 * `timestamp,value,anomaly_score` for each, both copied as they stood. A line that is neither is reported with its
 * number, counted and left out. Timestamps are not interpreted: rows are scored in the order of the file.
 */
#ifndef WEIR_CMD_EVAL_SERIES_H
#define WEIR_CMD_EVAL_SERIES_H

/* Exit status: 0 done, 1 failed on the way, 2 nothing to read there. */
int eval_series(const char *path);

#endif
