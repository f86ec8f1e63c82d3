/* shown.h - a text from outside, safe on a terminal; apart, since jansson and our own JSON writer cannot be included together. */
#ifndef WEIR_CMD_SHOWN_H
#define WEIR_CMD_SHOWN_H

#include "base/util.h"

/* What does not fit is cut. */
void shown_text(char *buf, size_t n, const char *text);

#endif
