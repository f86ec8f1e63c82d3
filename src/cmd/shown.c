#include "cmd/shown.h"

#include "base/str.h"
#include "sink/text.h"

void shown_text(char *buf, size_t n, const char *text)
{
	struct str s = { 0 };

	text_add_safe(&s, text);
	snprintf(buf, n, "%s", s.n && !str_error(&s) ? s.p : "");
	str_done(&s);
}
