/* Labels and what stands beside them: JSON documents, small enough to be held whole. */
#include "cmd/eval_case.h"
#include "cmd/eval_json.h"
#include "decode/record_parse.h"

#include <math.h>
#include <stdarg.h>

void eval_stream_done(struct eval_stream *s)
{
	for (size_t i = 0; i < s->labels; i++) {
		struct eval_label *l = &s->label[i];

		free(l->id);
		free(l->scope.kind);
		free(l->scope.value);
		eval_names_done(&l->actors);
		free(l->accepted);
	}
	for (size_t i = 0; i < s->incidents; i++) {
		struct eval_incident *in = &s->incident[i];

		free(in->id);
		free(in->turn);
		eval_names_done(&in->names);
		eval_names_done(&in->scopes);
	}
	free(s->label);
	free(s->incident);
	*s = (struct eval_stream){ 0 };
}

/* ---- one label -------------------------------------------------------------------------------------- */

/* Where a label is wrong, and how; the first complaint stays. */
struct fault {
	char *why;
	const char *path;
	size_t index;
	int error;
};

static void PRINTF_LIKE(2, 3) blame(struct fault *f, const char *fmt, ...)
{
	int n;
	va_list ap;

	if (f->error)
		return;
	f->error = -EBADMSG;
	n = snprintf(f->why, EVAL_WHY, "%s: label %zu: ", f->path, f->index);
	va_start(ap, fmt);
	if (n > 0 && n < EVAL_WHY)
		vsnprintf(f->why + n, EVAL_WHY - (size_t)n, fmt, ap);
	va_end(ap);
}

static char *text_of(struct fault *f, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	char number[32], *copy;

	if (json_is_integer(v))
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v)); /* ids are numbers in some files */
	else if (!json_is_string(v))
		blame(f, "%s is %s", key, v ? "not a text" : "missing");
	copy = strdup(json_is_integer(v) ? number : json_is_string(v) ? json_string_value(v) : "");
	if (!copy && !f->error)
		f->error = -ENOMEM;
	return copy;
}

static double number_of(struct fault *f, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	double t;

	if (json_is_number(v))
		return json_number_value(v);
	if (json_is_string(v) && !record_parse_time(span_of(json_string_value(v)), &t))
		return t;
	blame(f, "%s is %s", key, v ? "not a number" : "missing");
	return 0;
}

static int severity_of(const char *name)
{
	for (int s = SEVERITY_INFO; name && s <= SEVERITY_CRITICAL; s++)
		if (!strcmp(name, anomaly_severity_name((enum anomaly_severity)s)))
			return s;
	return -1;
}

static void read_actors(struct fault *f, const json_t *actors, struct eval_label *l)
{
	const char *kind;
	json_t *list, *value;
	size_t i;

	if (!actors || json_is_null(actors))
		return;
	if (!json_is_object(actors)) {
		blame(f, "actors is not an object");
		return;
	}
	l->has_actors = json_object_size(actors) > 0;
	json_object_foreach((json_t *)actors, kind, list) {
		if (!json_is_array(list))
			blame(f, "actors.%s is not a list", kind);
		json_array_foreach(list, i, value) {
			if (!json_is_string(value))
				blame(f, "actors.%s[%zu] is not a text", kind, i);
			else if (!f->error && eval_names_append(&l->actors, kind, json_string_value(value)) < 0)
				f->error = -ENOMEM;
		}
	}
}

static void read_scope(struct fault *f, const json_t *scope, struct eval_label *l)
{
	if (!scope || json_is_null(scope))
		return;
	if (!json_is_object(scope)) {
		blame(f, "scope is not an object");
		return;
	}
	l->scoped = true;
	l->scope.kind = text_of(f, scope, "kind");
	if (f->error)
		return;
	l->global = !strcmp(l->scope.kind, "global");
	if (l->global)
		return;
	l->scope.value = text_of(f, scope, "value");
	l->has_actors = true;
	if (!f->error && eval_names_append(&l->actors, l->scope.kind, l->scope.value) < 0)
		f->error = -ENOMEM;
}

static void read_accept(struct fault *f, const json_t *accept, struct eval_classes *classes, struct eval_label *l)
{
	const json_t *list = json_object_get(accept, "classes");
	const char *severity = json_string_value(json_object_get(accept, "severity"));
	json_t *v;
	size_t i;

	if (!accept || json_is_null(accept))
		return;
	if (!json_is_array(list) || severity_of(severity) < 0) {
		blame(f, "accept wants a list of classes and a severity");
		return;
	}
	l->accepts = true;
	l->accepted_severity = (enum anomaly_severity)severity_of(severity);
	l->accepted = calloc(json_array_size(list) + 1, sizeof(*l->accepted));
	if (!l->accepted) {
		f->error = -ENOMEM;
		return;
	}
	json_array_foreach(list, i, v) {
		int cls = json_is_string(v) ? eval_class_of(classes, json_string_value(v)) : -EINVAL;

		if (cls < 0)
			blame(f, "accept.classes[%zu] is %s", i, cls == -EINVAL ? "not a text" : "one name too many");
		else
			l->accepted[l->accepted_count++] = cls;
	}
}

static void read_label(struct fault *f, const json_t *o, struct eval_classes *classes, struct eval_label *l)
{
	CLEANUP(freep) char *cls = NULL;
	const json_t *intensity = json_object_get(o, "intensity");

	if (!json_is_object(o)) {
		blame(f, "not an object");
		return;
	}
	l->id = text_of(f, o, "id");
	if (json_is_number(json_object_get(o, "class")))
		blame(f, "class is not a text");
	cls = text_of(f, o, "class");
	if (f->error)
		return;
	l->cls = eval_class_of(classes, cls);
	if (l->cls < 0) {
		blame(f, "more than %d names of classes", EVAL_CLASSES_MAX);
		return;
	}
	l->start = number_of(f, o, "start");
	l->end = number_of(f, o, "end");
	if (!f->error && !(l->end >= l->start))
		blame(f, "it ends before it starts");
	l->intensity = !intensity || json_is_null(intensity) ? 0 : number_of(f, o, "intensity");
	l->benign = json_is_true(json_object_get(o, "benign"));
	read_actors(f, json_object_get(o, "actors"), l);
	read_scope(f, json_object_get(o, "scope"), l);
	read_accept(f, json_object_get(o, "accept"), classes, l);
	eval_names_sort(&l->actors);
}

/* ---- the files -------------------------------------------------------------------------------------- */

static json_t *load(const char *path, char why[EVAL_WHY])
{
	json_error_t e;
	FILE *f = fopen(path, "re");
	json_t *root;

	if (!f) {
		snprintf(why, EVAL_WHY, "%s: %s", path, strerror(errno));
		return NULL;
	}
	root = json_loadf(f, 0, &e);
	if (!root)
		snprintf(why, EVAL_WHY, "%s:%d: %s", path, e.line, ferror(f) ? strerror(EIO) : e.text);
	fclose(f);
	return root;
}

static int id_compare(const void *a, const void *b)
{
	return strcmp((*(const struct eval_label *const *)a)->id, (*(const struct eval_label *const *)b)->id);
}

/* Two labels of one id would be counted as one. */
static int refuse_twins(const struct eval_stream *s, const char *path, char why[EVAL_WHY])
{
	const struct eval_label **by_id = calloc(s->labels + 1, sizeof(*by_id));
	int r = by_id ? 0 : -ENOMEM;

	for (size_t i = 0; by_id && i < s->labels; i++)
		by_id[i] = &s->label[i];
	if (by_id)
		qsort(by_id, s->labels, sizeof(*by_id), id_compare);
	for (size_t i = 1; by_id && r == 0 && i < s->labels; i++) {
		if (!strcmp(by_id[i - 1]->id, by_id[i]->id)) {
			size_t later = (size_t)MAX(by_id[i - 1] - s->label, by_id[i] - s->label);

			snprintf(why, EVAL_WHY, "%s: label %zu: its id is another label's, too", path, later);
			r = -EBADMSG;
		}
	}
	free(by_id);
	return r;
}

static int meta_number(const json_t *meta, const char *path, const char *key, double *ret, char why[EVAL_WHY])
{
	const json_t *v = json_object_get(meta, key);
	double t = NAN;

	if (json_is_number(v))
		t = json_number_value(v);
	else if (v && (!json_is_string(v) || record_parse_time(span_of(json_string_value(v)), &t)))
		return snprintf(why, EVAL_WHY, "%s: %s is not a number", path, key), -EBADMSG;
	*ret = t;
	return 0;
}

static int read_meta(const char *labels, struct eval_stream *s, char why[EVAL_WHY])
{
	const char *slash = strrchr(labels, '/');
	CLEANUP(freep) char *path = NULL;
	json_t *meta;
	int r;

	s->start = s->end = s->warmup = NAN;
	if (asprintf(&path, "%.*sstream.json", slash ? (int)(slash - labels + 1) : 0, labels) < 0)
		return path = NULL, -ENOMEM;
	if (access(path, F_OK) < 0)
		return 0;
	meta = load(path, why);
	if (!meta)
		return -EBADMSG;
	r = meta_number(meta, path, "start", &s->start, why);
	if (r == 0)
		r = meta_number(meta, path, "end", &s->end, why);
	if (r == 0)
		r = meta_number(meta, path, "warmup", &s->warmup, why);
	json_decref(meta);
	return r;
}

int eval_read_labels(const char *path, struct eval_classes *classes, struct eval_stream *s, char why[EVAL_WHY])
{
	struct fault f = { .why = why, .path = path };
	json_t *root = load(path, why);
	size_t n = json_array_size(root);

	if (!root)
		return -EBADMSG;
	if (!json_is_array(root) || n > EVAL_LABELS_MAX) {
		snprintf(why, EVAL_WHY, "%s: %s", path, n ? "too many labels" : "not a list of labels");
		json_decref(root);
		return -EBADMSG;
	}
	s->label = calloc(n + 1, sizeof(*s->label));
	if (!s->label)
		f.error = -ENOMEM;
	for (; f.index < n && !f.error; f.index += !f.error) {
		s->labels++;
		read_label(&f, json_array_get(root, f.index), classes, &s->label[f.index]);
	}
	json_decref(root);
	if (f.error == 0)
		f.error = refuse_twins(s, path, why);
	if (f.error == 0)
		f.error = read_meta(path, s, why);
	if (f.error == -ENOMEM)
		snprintf(why, EVAL_WHY, "%s: %s", path, strerror(ENOMEM));
	return f.error;
}
