/*
 * Labels and events that anybody may have written: what stands before the first 0x1e is a label file, the rest are events, line by
 * line. What can be read is scored and shown; the JSON must be whole, shares must be shares.
 */
#include "cmd/eval_json.h"
#include "cmd/eval_score.h"

#include <math.h>
#include <sys/mman.h>

static void check_share(double v)
{
	if (!isnan(v) && !(v >= 0 && v <= 1))
		abort();
}

static void judge(struct eval_stream *s, const struct eval_classes *classes)
{
	static struct eval_result r;
	struct eval_opts o = { .warmup_s = NAN, .resamples = 3, .seed = 1 };
	struct str out = { .ceiling = 64u << 20 };
	json_t *whole;

	if (eval_score(s, 1, &o, &r) < 0)
		return;
	check_share(r.value.macro_f1[EVAL_TOLD]);
	check_share(r.value.macro_f1[EVAL_OPENED]);
	check_share(r.value.scope_named);
	for (int k = 0; k < EVAL_SCORED; k++)
		check_share(r.value.f1[EVAL_TOLD][k]);
	eval_write_json(&out, &r, classes);
	if (str_error(&out) == 0) {
		whole = json_loads(out.p, 0, NULL);
		if (!whole)
			abort();
		json_decref(whole);
	}
	str_reset(&out);
	eval_write_text(&out, &r, classes);
	str_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *mark = n ? memchr(data, 0x1e, n) : NULL;
	size_t labels = mark ? (size_t)(mark - data) : n;
	const char *p = (const char *)data + labels + 1, *end = (const char *)data + n;
	struct eval_stream s = { 0 };
	struct eval_classes classes;
	struct eval_book *book = NULL;
	char path[64], why[EVAL_WHY];
	int fd = memfd_create("labels", MFD_CLOEXEC), r;

	if (fd < 0 || eval_classes_init(&classes) < 0)
		abort();
	if (write(fd, data, labels) != (ssize_t)labels)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = eval_read_labels(path, &classes, &s, why);
	if (eval_book_open(&classes, &s, &book) < 0)
		abort();
	while (mark && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *bad;
		size_t len = (size_t)((nl ? nl : end) - p);

		eval_book_take(book, p, len, &bad);
		p += len + 1;
	}
	if (r == 0)
		judge(&s, &classes);
	eval_book_free(book);
	eval_stream_done(&s);
	eval_classes_done(&classes);
	close(fd);
	return 0;
}
