/*
 * The traffic lab: the same seed gives the same bytes, what it writes is what the contracts say, and what its labels claim
 * is really in the records.
 *
 * Claims are measured against a twin: the same plan with the attacks taken out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>

#include "../../tools/lab/make.h"

/* The names that the project's writer and jansson share; none of the writer's is used here. */
#define json_string str_json_string
#define json_int str_json_int
#define json_null str_json_null
#include "decode/record.h"
#undef json_string
#undef json_int
#undef json_null

/* ---- streams in memory ----------------------------------------------------------------------------------------- */
struct taken {
	struct rec *rec;
	int n, cap;
};

static int take(void *ctx, const struct lab *lab, const struct rec *q)
{
	struct taken *t = ctx;

	(void)lab;
	LAB_GROW(t->rec, t->n, t->cap, 1);
	t->rec[t->n++] = *q;
	return 0;
}

static struct lab *plan(struct lab_opts o)
{
	struct lab *lab = lab_realloc(NULL, sizeof(*lab));

	assert_int_equal(lab_plan(lab, &o), 0);
	return lab;
}

static void lab_drop(struct lab *lab)
{
	lab_done(lab);
	free(lab);
}

/* Runs into a file without a name; its descriptor stands at the beginning. */
static int run_to_file(struct lab *lab)
{
	char name[] = "/tmp/weir-test-lab.XXXXXX";
	struct out o = { .fd = mkstemp(name) };

	assert_true(o.fd >= 0);
	unlink(name);
	if (lab->format == FMT_CSV)
		csv_head(&o, lab);
	assert_int_equal(lab_run(lab, rec_write, &o), 0);
	out_flush(&o);
	assert_int_equal(o.error, 0);
	free(o.p);
	lseek(o.fd, 0, SEEK_SET);
	return o.fd;
}

static uint64_t fd_hash(int fd, uint64_t *ret_bytes)
{
	static char b[65536];
	uint64_t h = 0xcbf29ce484222325u;
	ssize_t n;

	for (*ret_bytes = 0; (n = read(fd, b, sizeof(b))) > 0; *ret_bytes += (uint64_t)n)
		for (ssize_t i = 0; i < n; i++)
			h = (h ^ (unsigned char)b[i]) * 0x100000001b3u;
	close(fd);
	return h;
}

static json_t *out_json(void (*write)(struct out *o, const struct lab *lab), const struct lab *lab)
{
	struct out o = { .fd = -1 };
	json_error_t e;
	json_t *j;

	out_room(&o);
	write(&o, lab);
	assert_int_equal(o.error, 0); /* all of it fitted */
	j = json_loadb(o.p, o.n, 0, &e);
	if (!j)
		print_error("%s at %d\n", e.text, e.position);
	assert_non_null(j);
	free(o.p);
	return j;
}

static void same_seed_same_bytes(void **state)
{
	uint64_t a, b, c, n, m;
	struct lab_opts o = { .seed = 17, .days = 0.15, .rate = 3 };
	struct lab *lab;

	(void)state;
	lab = plan(o);
	a = fd_hash(run_to_file(lab), &n);
	lab_drop(lab);
	lab = plan(o);
	b = fd_hash(run_to_file(lab), &m);
	lab_drop(lab);
	o.seed = 18;
	lab = plan(o);
	c = fd_hash(run_to_file(lab), &m);
	lab_drop(lab);
	assert_true(n > 100000);
	assert_int_equal(a, b);
	assert_int_not_equal(a, c);
}

/* ---- formats -------------------------------------------------------------------------------------------------------- */
/* Our own reader takes every line of every profile without a word, and finds what the profile promises. */
static void complain(void *ctx, const char *message)
{
	(void)ctx;
	print_error("%s\n", message);
}

static void every_profile_is_readable(void **state)
{
	(void)state;
	for (int i = 0; i < LAB_PROFILES; i++) {
		const struct profile *p = &lab_profiles[i];
		struct lab *lab = plan((struct lab_opts){ .seed = 30 + (uint64_t)i, .profile = p->name, .days = 0.12, .rate = 2 });
		struct record_reader_opts ro = { .name = p->name, .complain = complain };
		struct record_reader *rd;
		struct record r;
		int fd = run_to_file(lab), n = 0, keys = 0, users = 0, sims = 0, ttfts = 0, statuses = 0, control = 0;
		int64_t weight = 0;

		assert_int_equal(record_reader_open(fd, &ro, &rd), 0);
		while (record_reader_next(rd, &r) == 1) {
			n++;
			weight += r.weight;
			assert_true(record_has(&r, F_CLIENT_IP));
			assert_true(r.timestamp >= lab->epoch - 0.001 && r.timestamp <= lab->epoch + lab->len + 1.001);
			keys += record_has(&r, F_API_KEY);
			users += record_has(&r, F_USER);
			sims += record_has(&r, F_PROMPT_SIM);
			ttfts += record_has(&r, F_TTFT_MS);
			statuses += record_has(&r, F_STATUS);
			control += r.kind == KIND_CONTROL || r.kind == KIND_OTHER;
			assert_true(record_has(&r, F_LOST) || control || record_has(&r, F_MODEL_NAME));
			if (record_has(&r, F_CACHED_TOKENS) && record_has(&r, F_PROMPT_TOKENS))
				assert_true(record_int(&r, F_CACHED_TOKENS, 0) <= record_int(&r, F_PROMPT_TOKENS, 0));
			if (record_has(&r, F_TTFT_MS) && record_has(&r, F_DURATION_MS))
				assert_true(record_real(&r, F_TTFT_MS, 0) <= record_real(&r, F_DURATION_MS, 0) + 0.1);
		}
		assert_int_equal(record_reader_bad_lines(rd), 0);
		assert_int_equal(record_reader_bad_values(rd), 0);
		assert_int_equal(n, lab->records);
		assert_true(n > 3000);
		assert_true(weight >= n);
		assert_int_equal(keys > 0, (lab->has & HAS_KEY) != 0);
		assert_int_equal(users > 0, (lab->has & HAS_USER) != 0);
		assert_int_equal(sims > 0, (lab->has & HAS_PROMPT) != 0);
		assert_int_equal(ttfts > 0, (lab->has & HAS_LATENCY) != 0);
		assert_int_equal(statuses > 0, (lab->has & HAS_STATUS) != 0);
		assert_true((lab->has & HAS_PATH) || !control);
		record_reader_free(rd);
		lab_drop(lab);
	}
}

/* Jansson, which is not ours, agrees: whole lines, JSON types as in the contract. */
static void json_lines_are_json(void **state)
{
	struct lab *lab = plan((struct lab_opts){ .seed = 51, .profile = "full", .days = 0.12, .rate = 2 });
	FILE *f = fdopen(run_to_file(lab), "r");
	char *line = NULL;
	size_t cap = 0;
	int n = 0;

	(void)state;
	while (getline(&line, &cap, f) > 0) {
		json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL), *v;

		assert_non_null(j);
		assert_true(json_is_number(json_object_get(j, "timestamp")));
		assert_true(json_is_string(json_object_get(j, "client_ip")));
		v = json_object_get(j, "prompt_hash");
		assert_true(!v || strlen(json_string_value(v)) == 16);
		v = json_object_get(j, "injection_score");
		assert_true(!v || (json_number_value(v) >= 0 && json_number_value(v) <= 1));
		v = json_object_get(j, "status");
		assert_true(json_is_integer(v) && json_integer_value(v) >= 200 && json_integer_value(v) < 600);
		assert_true(json_integer_value(v) < 400 || !json_object_get(j, "completion_tokens")); /* who fails reports nothing */
		json_decref(j);
		n++;
	}
	assert_int_equal(n, lab->records);
	free(line);
	fclose(f);
	lab_drop(lab);
}

static void labels_are_as_the_scorer_reads_them(void **state)
{
	static const char *const kinds[] = { "tune", "hard", "cold", "clean" };

	(void)state;
	for (int k = 0; k < 4; k++) {
		struct lab *lab = plan((struct lab_opts){ .seed = 60 + (uint64_t)k, .kind = kinds[k], .days = k == 1 || k == 3 ? 2.5 : 0.6, .rate = 0.6 });
		struct taken t = { 0 };
		json_t *labels, *meta, *l;
		size_t i;
		int attacks = 0, others = 0;

		assert_int_equal(lab_run(lab, take, &t), 0);
		labels = out_json(labels_json, lab);
		meta = out_json(stream_json, lab);
		assert_true(json_number_value(json_object_get(meta, "end")) > json_number_value(json_object_get(meta, "start")));
		assert_true(json_number_value(json_object_get(meta, "warmup")) < lab->len / 2 + 1);
		json_array_foreach (labels, i, l) {
			json_t *scope = json_object_get(l, "scope"), *actors = json_object_get(l, "actors"), *list, *v, *accept = json_object_get(l, "accept");
			const char *cls = json_string_value(json_object_get(l, "class")), *kind;
			double start = json_number_value(json_object_get(l, "start")), end = json_number_value(json_object_get(l, "end"));
			size_t n;

			assert_non_null(cls);
			assert_true(start < end && start >= lab->epoch - 601 && start < lab->epoch + lab->len); /* a shift may begin half a bin early */
			assert_true(json_is_number(json_object_get(l, "intensity")));
			assert_true(json_is_boolean(json_object_get(l, "benign")));
			assert_true(json_is_null(accept) || json_is_array(json_object_get(accept, "classes")));
			assert_true(json_is_object(actors));
			json_object_foreach (actors, kind, list) {
				json_array_foreach (list, n, v)
					assert_true(json_is_string(v));
				assert_true(n > 0);
			}
			assert_true(json_is_null(scope) || json_is_string(json_object_get(scope, "value")));
			if (attack_find(cls) >= 0) {
				attacks++;
				assert_true(end <= lab->epoch + lab->len + 0.001);
				assert_true(json_is_object(scope));
				assert_int_equal(json_is_true(json_object_get(l, "benign")), !strcmp(cls, "flash_crowd"));
			} else {
				others++;
				assert_true(json_is_true(json_object_get(l, "benign")));
			}
		}
		assert_int_equal(attacks > 0, k == 0 || k == 2);
		if (k == 1)
			assert_true(others >= 5);
		if (k == 2) /* ten minutes after first sight */
			assert_true(lab->warmup == 0 && lab->label_n > 0);
		json_decref(labels);
		json_decref(meta);
		free(t.rec);
		lab_drop(lab);
	}
}

static void orders_are_kept(void **state)
{
	struct { const char *profile; enum order order; } of[] = { { "full", ORDER_ARRIVAL }, { "completion", ORDER_COMPLETION }, { "shuffled", ORDER_SHUFFLED } };

	(void)state;
	for (int k = 0; k < 3; k++) {
		struct lab *lab = plan((struct lab_opts){ .seed = 71, .profile = of[k].profile, .days = 0.15, .rate = 4 });
		struct taken t = { 0 };
		double latest = 0;
		int back = 0;

		assert_int_equal(lab->order, of[k].order);
		lab->lossy = 0;
		assert_int_equal(lab_run(lab, take, &t), 0);
		for (int i = 0; i < t.n; i++) {
			const struct rec *q = &t.rec[i];

			if (k == 0)
				assert_true(q->t >= latest);
			else if (k == 1)
				assert_true(q->t + (double)q->duration >= latest - 1e-6);
			else
				assert_true(q->t >= latest - 5.001);
			back += i && q->t < t.rec[i - 1].t;
			if (k == 1)
				latest = q->t + (double)q->duration;
			else
				latest = q->t > latest ? q->t : latest;
		}
		assert_int_equal(back > 0, k > 0);
		free(t.rec);
		lab_drop(lab);
	}
}

/* What is lost from the records is in the counters' lines, to the last request and token. */
static void lost_lines_lose_nothing(void **state)
{
	int64_t requests[2] = { 0 }, tokens[2] = { 0 }, lines[2] = { 0 };

	(void)state;
	for (int k = 0; k < 2; k++) {
		struct lab *lab = plan((struct lab_opts){ .seed = 80, .profile = "full", .days = 0.15, .rate = 6, .only = "ddos" });
		struct taken t = { 0 };

		lab->lossy = k ? 5 : 0;
		assert_int_equal(lab_run(lab, take, &t), 0);
		for (int i = 0; i < t.n; i++) {
			requests[k] += t.rec[i].weight;
			tokens[k] += (t.rec[i].prompt > 0 ? t.rec[i].prompt : 0) + (t.rec[i].completion > 0 ? t.rec[i].completion : 0);
			lines[k] += t.rec[i].lost;
		}
		free(t.rec);
		lab_drop(lab);
	}
	assert_int_equal(lines[0], 0);
	assert_true(lines[1] > 1000);
	assert_int_equal(requests[0], requests[1]);
	assert_int_equal(tokens[0], tokens[1]);
}

/* ---- what labels claim ------------------------------------------------------------------------------------------------ */
/* The same plan without its attacks. Slots stay: they are no attack. */
static void lab_calm(struct lab *lab)
{
	for (int i = 0; i < lab->mod_n; i++)
		if (lab->mods[i].what != MOD_SLOTS)
			lab->mods[i].sh.start = lab->mods[i].sh.end = LAB_NEVER;
	for (int i = lab->customers; i < lab->src_n; i++)
		if (lab->src[i].attack)
			lab->src[i].level = 0;
}

static bool rec_is(const struct lab *lab, const struct rec *q, const char *kind, const char *value)
{
	char v[64] = "";

	if (!kind || !strcmp(kind, "global"))
		return true;
	if (!strcmp(kind, "api_key") && q->key)
		key_name(lab, q->key, v, sizeof(v));
	else if (!strcmp(kind, "user"))
		user_name(q->user, v, sizeof(v));
	else if (!strcmp(kind, "client_ip"))
		addr_name(q->addr, v, sizeof(v));
	else if (!strcmp(kind, "network"))
		net_name(q->addr, v, sizeof(v));
	else if (!strcmp(kind, "model"))
		return !strcmp(value, lab->model[q->model].name);
	return !strcmp(v, value);
}

struct sums {
	double requests, tokens, prompts, answers, failed, refused, ok, ttft_log, ttft_n, tpot_log, tpot_n;
};

static struct sums sum_up(const struct lab *lab, const struct taken *t, const char *kind, const char *value, double from, double to)
{
	struct sums s = { 0 };

	for (int i = 0; i < t->n; i++) {
		const struct rec *q = &t->rec[i];

		if (q->t < from || q->t >= to || q->path == PATH_HEALTH || q->path == PATH_METRICS || !rec_is(lab, q, kind, value))
			continue;
		s.requests += q->weight;
		s.failed += q->status >= 500 || q->finish == FINISH_ERROR;
		s.refused += q->status == 401 || q->status == 403;
		if (q->prompt < 0)
			continue;
		s.ok++;
		s.prompts += q->prompt;
		s.answers += q->completion;
		s.tokens += q->prompt + q->completion;
		if (q->ttft > 0) {
			s.ttft_log += log((double)q->ttft);
			s.ttft_n++;
		}
		if (q->ttft > 0 && q->completion > 8) {
			s.tpot_log += log(((double)q->duration - (double)q->ttft) / q->completion);
			s.tpot_n++;
		}
	}
	return s;
}

static double mean_shape(const struct shape *sh)
{
	double sum = 0;

	for (int i = 0; i < 2000; i++)
		sum += shape_at(sh, sh->start + (sh->end - sh->start) * (i + 0.5) / 2000) / 2000;
	return sum;
}

/* measured / claimed of one label; 0: cannot be said. */
static double claim(const struct lab *lab, const struct label *l, const struct taken *with, const struct taken *without)
{
	const char *kind = l->scope_kind, *value = l->scope_value;
	double from = l->start, to = l->end, x = l->intensity, base = lab_mean(lab, from, to);
	struct sums a, b;

	if (!strcmp(l->cls, "token_growth"))
		from = to - (to - from) * 0.1;
	a = sum_up(lab, with, kind, value, from, to);
	b = sum_up(lab, without, kind, value, from, to);
	if (!strcmp(l->cls, "flood") || !strcmp(l->cls, "ddos") || !strcmp(l->cls, "flash_crowd")) {
		const struct shape *sh = &lab->src[l->src].sh;

		a = sum_up(lab, with, "global", "", sh->start, to);
		return a.requests / (to - sh->start) / base / (1 + (x - 1) * mean_shape(sh));
	}
	if (!strcmp(l->cls, "cost_spike"))
		return b.requests < 30 ? 0 : a.tokens / b.tokens / x;
	if (!strcmp(l->cls, "key_sharing"))
		return b.requests < 40 || !strcmp(l->note, "sold on") ? 0 : a.requests / b.requests / x;
	if (!strcmp(l->cls, "token_growth"))
		return b.ok < 100 ? 0 : !strcmp(l->note, "answers") ? a.answers / a.ok / (b.answers / b.ok) / x : a.prompts / a.ok / (b.prompts / b.ok) / pow(x, 0.95);
	if (!strcmp(l->cls, "latency_regression")) {
		double shape = !strcmp(l->note, "ramp") ? 0.75 : 1;

		if (!strcmp(l->note, "time per token"))
			return a.tpot_n < 60 || b.tpot_n < 60 ? 0 : exp(a.tpot_log / a.tpot_n - b.tpot_log / b.tpot_n) / pow(x, shape);
		return a.ttft_n < 60 || b.ttft_n < 60 ? 0 : exp(a.ttft_log / a.ttft_n - b.ttft_log / b.ttft_n) / pow(x, shape);
	}
	if (!strcmp(l->cls, "error_burst"))
		return a.requests < 100 ? 0 : a.failed / a.requests / (0.05 * x > 0.9 ? 0.9 : 0.05 * x);
	if (!strcmp(l->cls, "traffic_drop")) {
		if (!strcmp(l->note, "silence")) /* what is left comes from machines that belong to nobody */
			return b.requests < 100 ? 0 : a.requests < 0.5 * b.requests ? 1 : 10;
		return b.requests < 100 ? 0 : a.requests / b.requests * x;
	}
	if (!strcmp(l->cls, "credential_abuse")) {
		a = sum_up(lab, with, "global", "", from, to);
		b = sum_up(lab, without, "global", "", from, to);
		return (a.refused - b.refused) / (to - from) / ((base * 0.004 + 0.02) * 4 * x);
	}
	if (!strcmp(l->cls, "scraping") || !strcmp(l->cls, "prompt_probing")) {
		double rate = l->cls[0] == 's' ? base * 0.06 * x : base * 0.02 * x;

		rate *= strcmp(l->note, "slow") ? 1 : 0.4;
		return !strcmp(l->note, "with pauses") || !strcmp(l->note, "bursts") ? 0 : (a.requests - b.requests) / (to - from) / rate;
	}
	return 0;
}

static void labels_say_what_is_there(void **state)
{
	(void)state;
	for (int c = 0; c < LAB_ATTACKS; c++) {
		double sum = 0;
		int n = 0, all = 0;

		for (uint64_t seed = 0; seed < 4; seed++) {
			struct lab_opts o = { .seed = 200 + seed, .profile = "full", .days = strcmp(lab_attacks[c].name, "token_growth") ? 0.35 : 0.7, .rate = 2.5, .only = lab_attacks[c].name };
			struct lab *lab = plan(o), *calm = plan(o);
			struct taken with = { 0 }, without = { 0 };

			lab->lossy = calm->lossy = 0;
			for (int i = 0; i < LAB_MODELS_MAX; i++) /* what load does to latency is another matter */
				lab->model[i].slots = calm->model[i].slots = 1e6;
			lab_calm(calm);
			assert_int_equal(lab_run(lab, take, &with), 0);
			assert_int_equal(lab_run(calm, take, &without), 0);
			for (int i = 0; i < lab->label_n; i++) {
				double v;

				if (attack_find(lab->label[i].cls) != c)
					continue;
				all++;
				v = claim(lab, &lab->label[i], &with, &without);
				if (v > 0) {
					sum += log(v);
					n++;
					if (v < 0.33 || v > 3)
						print_message("%s (%s) seed %d: %.2f of what is claimed (%.2f)\n", lab->label[i].cls, lab->label[i].note, (int)o.seed, v, lab->label[i].intensity);
				}
			}
			free(with.rec);
			free(without.rec);
			lab_drop(lab);
			lab_drop(calm);
		}
		print_message("%-20s %2d labels, %2d measured, %.2f of what they claim\n", lab_attacks[c].name, all, n, exp(sum / n));
		assert_true(n >= 3);
		assert_true(fabs(sum / n) < 0.25);
	}
}

/* Attacks that are kept for tests do not occur below seed 1000, and test seeds see other traces. */
static void tuning_never_sees_what_tests_have(void **state)
{
	struct lab_opts wrong = { .seed = 5, .kind = "test" };
	struct lab *lab = lab_realloc(NULL, sizeof(*lab));
	int held = 0, all = 0;

	(void)state;
	assert_int_equal(lab_plan(lab, &wrong), -ERANGE);
	wrong = (struct lab_opts){ .seed = 1005, .kind = "tune" };
	assert_int_equal(lab_plan(lab, &wrong), -ERANGE);
	free(lab);
	for (int c = 0; c < LAB_ATTACKS; c++)
		for (int i = 0; i < 9 && lab_attacks[c].variant[i].name; i++) {
			all++;
			held += lab_attacks[c].variant[i].held;
		}
	assert_true(held * 4 >= all && held * 2 < all); /* about a third */
	lab = plan((struct lab_opts){ .seed = 5, .days = 0.2, .rate = 1 });
	for (int i = 0; i < 400; i++) {
		const struct attack *a = &lab_attacks[i % LAB_ATTACKS];

		assert_false(a->variant[variant_pick(lab, a)].held);
		assert_int_equal(trace_pick(lab, LAB_CURVES) % 2, 0);
	}
	lab_drop(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_seed_same_bytes),
		cmocka_unit_test(every_profile_is_readable),
		cmocka_unit_test(json_lines_are_json),
		cmocka_unit_test(labels_are_as_the_scorer_reads_them),
		cmocka_unit_test(orders_are_kept),
		cmocka_unit_test(lost_lines_lose_nothing),
		cmocka_unit_test(labels_say_what_is_there),
		cmocka_unit_test(tuning_never_sees_what_tests_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
