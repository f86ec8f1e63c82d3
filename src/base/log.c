#include "base/log.h"

#include <stdarg.h>

static enum log_level threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
	threshold = level;
}

enum log_level log_level(void)
{
	return threshold;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const prefix[] = { "weir: error: ", "weir: warning: ", "weir: ", "weir: debug: " };
	char line[1024];
	int n, m;
	va_list ap;

	if (level > threshold)
		return;
	n = snprintf(line, sizeof(line), "%s", prefix[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n = MIN(n + m, (int)sizeof(line) - 2);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody is left to be told */
}
