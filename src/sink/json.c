/* One JSON object per line: the event as it is on disk and on the wire. */
#include "sink/line_out.h"

struct sink_json {
	struct sink base;
	struct line_out out;
	struct str line;
};

static int json_emit(struct sink *s, const struct anomaly *a)
{
	struct sink_json *j = (struct sink_json *)s;
	int r;

	str_reset(&j->line);
	anomaly_write_json(&j->line, a);
	r = str_error(&j->line);
	if (r < 0)
		return r;
	r = line_out_write(&j->out, j->line.p, j->line.n);
	line_out_account(&j->out, s);
	return r;
}

static int json_flush(struct sink *s)
{
	struct sink_json *j = (struct sink_json *)s;
	int r = line_out_flush(&j->out);

	line_out_account(&j->out, s);
	return r;
}

static void json_close(struct sink *s)
{
	struct sink_json *j = (struct sink_json *)s;

	line_out_done(&j->out);
	str_done(&j->line);
	free(j);
}

static const struct sink_ops json_ops = { .name = "json", .emit = json_emit, .flush = json_flush, .close = json_close };

int sink_json_open_paced(int fd, enum sink_pace pace, struct sink **ret)
{
	struct sink_json *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->base.ops = &json_ops;
	line_out_init(&j->out, fd, pace);
	*ret = &j->base;
	return 0;
}

int sink_json_open(int fd, struct sink **ret)
{
	return sink_json_open_paced(fd, SINK_WAIT, ret);
}
