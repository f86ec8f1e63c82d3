#!/usr/bin/env python3
"""Makes docs/accuracy.md: streams of the traffic lab, weir and the baselines on them, all judged by weir eval.

usage: run.py --weir build/weir --lab build/weir-lab --cache build/accuracy --out docs/accuracy.md [--quick]

Streams and events are kept in the cache by the content of what made them, so that only what changed is run again; two programs at a
time. --quick: two streams of each sort, to see that everything runs (its figures are worth nothing; give another --out).
"""
import argparse, concurrent.futures, hashlib, json, os, shutil, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
# sort, first seed, how many. Test seeds only: nothing was fitted on seeds from 1000 on.
SORTS = [("test", 1001, 16), ("clean", 1101, 4), ("hard", 1201, 4), ("cold", 1301, 12)]
CLASSES = "flood ddos flash_crowd cost_spike scraping prompt_probing credential_abuse key_sharing token_growth latency_regression error_burst traffic_drop".split()
DETECTORS = ["weir", "rules", "forest10", "forest1", "ewma", "static"]
TITLES = {"weir": "**weir**", "rules": "hand-written rules, one afternoon", "forest10": "isolation forest (scikit-learn), 1 % of windows", "forest1": "isolation forest, 0.1 %",
          "ewma": "each address by the minute, moving mean + 3 sd", "static": "tokens in 5 min, mean + 3 sd (sees the whole file first)"}


def content(*paths, more=""):
    h = hashlib.sha256(more.encode())
    for p in paths:
        with open(p, "rb") as f:
            h.update(f.read())
    return h.hexdigest()[:12]


def call(cmd, stdout=None):
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    p = subprocess.run(["nice", *cmd], stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, text=not stdout, env=env)
    if p.returncode:
        err = p.stderr if isinstance(p.stderr, str) else p.stderr.decode(errors="replace")
        raise SystemExit(f"accuracy: {' '.join(cmd[:3])} ended with {p.returncode}: {err[-400:]}")
    return p.stdout


class Lab:
    def __init__(self, o):
        self.o, self.lab = o, content(o.lab)
        self.streams = {s: [(seed, self.folder(s, seed)) for seed in range(first, first + (min(n, 2) if o.quick else n))] for s, first, n in SORTS}

    def folder(self, sort, seed):
        return os.path.join(self.o.cache, "streams", f"{sort}-{seed}-{self.lab}")

    def make(self, sort, seed, folder):
        if os.path.exists(folder):
            return
        parent = os.path.dirname(folder)
        for old in os.listdir(parent):
            if old.startswith(f"{sort}-{seed}-"):
                shutil.rmtree(os.path.join(parent, old))
        call([self.o.lab, "make", "--seed", str(seed), "--kind", sort, "--out", folder + ".part"])
        os.rename(folder + ".part", folder)


def records_of(folder):
    p = os.path.join(folder, "records.jsonl")
    return p if os.path.exists(p) else os.path.join(folder, "records.csv")


class Detectors:
    """Which program makes which events. forest1 and forest10 come out of one run."""

    def __init__(self, o, python):
        self.o, self.python, weir, shared = o, python, content(o.weir), os.path.join(HERE, "events.py")
        self.key = {"weir": weir, "static": content(os.path.join(HERE, "run.py"), o.weir, more="static")}
        for d in ("ewma", "rules"):
            self.key[d] = content(shared, os.path.join(HERE, d + ".py"))
        if python:
            self.key["forest1"] = self.key["forest10"] = content(shared, os.path.join(HERE, "forest.py"))
        self.names = [d for d in DETECTORS if d in self.key]

    def path(self, d, folder):
        return os.path.join(self.o.cache, "events", f"{d}-{self.key[d]}", os.path.basename(folder) + ".jsonl")

    def jobs(self, folder):
        """Commands for what the cache lacks: (files made, command, whether it writes to stdout)."""
        want = {d: self.path(d, folder) for d in self.names if not os.path.exists(self.path(d, folder))}
        py = self.python or sys.executable
        for d in ("weir", "static"):
            if d in want:
                extra = ["--detector", "static", "--bin", "300", "--sigma", "3"] if d == "static" else []
                yield [want[d]], [self.o.weir, "replay", "--output", "json", *extra, records_of(folder)], True
        for d in ("ewma", "rules"):
            if d in want:
                yield [want[d]], [py, os.path.join(HERE, d + ".py"), folder, want[d] + ".part"], False
        if "forest1" in want or "forest10" in want:
            a, b = self.path("forest1", folder), self.path("forest10", folder)
            yield [a, b], [py, os.path.join(HERE, "forest.py"), folder, "0.001", a + ".part", "0.01", b + ".part"], False

    def run(self, job):
        files, cmd, piped = job
        for f in files:
            os.makedirs(os.path.dirname(f), exist_ok=True)
        if piped:
            with open(files[0] + ".part", "wb") as f:
                call(cmd, stdout=f)
        else:
            call(cmd)
        for f in files:
            os.rename(f + ".part", f)


def with_sklearn():
    for python in (os.environ.get("PYTHON"), "python3", "/usr/bin/python3"):
        if python and shutil.which(python) and subprocess.run([python, "-c", "import sklearn"], capture_output=True).returncode == 0:
            return python
    print("SKIP isolation forest: no Python here has scikit-learn (apt-get install python3-sklearn)", file=sys.stderr)
    return None


def num(v, digits=2):
    if v is None:
        return "-"
    return f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.{digits}f}" if abs(v) < 100 else f"{v:.1f}"


def span(o, name, digits=2):
    v, i = o[name], o.get("bootstrap", {}).get(name)
    return num(v, digits) + (f" ({num(i[0], digits)}–{num(i[1], digits)})" if i and i[0] is not None else "")


def row(*cells):
    return "| " + " | ".join(cells) + " |\n"


def head(*cells):
    return row(*cells) + "|" + "---|" * len(cells) + "\n"


class Report:
    def __init__(self, o, lab, det):
        self.o, self.lab, self.det, self.cache = o, lab, det, {}

    def score(self, d, sort, only=None):
        k = (d, sort, only)
        if k not in self.cache:
            folders = [f for seed, f in self.lab.streams[sort] if only in (None, seed)]
            cmd = [self.o.weir, "eval", "--json", "--labels", *[f + "/labels.json" for f in folders], "--events", *[self.det.path(d, f) for f in folders]]
            self.cache[k] = json.loads(call(cmd + (["--resamples", "0"] if only is not None or d != "weir" else [])))
        return self.cache[k]

    def methods(self):
        t = head("detector", "macro-F1", "at ≥ 3×", "recall, any class", "F1, any class", "scope named", "p95 delay, flood and ddos ≥ 3×", "opens per event", "false ≥ warning a day: attacks / clean / hard",
                 "false criticals a week: clean / hard")
        for d in self.det.names:
            a, c, h = (self.score(d, s) for s in ("test", "clean", "hard"))
            t += row(TITLES[d], num(a["macro_f1"]), num(a["macro_f1_3x"]), num(a["recall_any"]), num(a["f1_any"]), num(a["scope_named"]),
                     num(a["delay_volumetric_3x_s"]["p95"], 0) + (" s" if a["delay_volumetric_3x_s"]["p95"] is not None else ""), num(a["opens_per_event"], 1),
                     " / ".join(num(x["false_warnings_per_day"], 1) for x in (a, c, h)), " / ".join(num(x["false_criticals_per_week"], 1) for x in (c, h)))
        return t

    def classes(self):
        a = self.score("weir", "test")
        rest = [d for d in ("rules",) if d in self.det.names]
        t = head("class", "labels", "precision", "recall", "F1", "F1 ≥ 3×", "F1 as opened", "delay p50 / p95", *[f"F1 of the {d}" for d in rest])
        for c in CLASSES:
            x = a["classes"].get(c)
            if not x:
                continue
            cell = lambda k: num(x[k]) + (f" ({num(x[k + '_95'][0])}–{num(x[k + '_95'][1])})" if x.get(k + "_95") and x[k + "_95"][0] is not None and x[k] is not None else "")
            t += row(f"`{c}`", str(int(x["labels"])), cell("precision"), cell("recall"), cell("f1"), num(x["f1_3x"]), num(x["f1_opened"]),
                     f"{num(x['delay_s']['p50'], 0)} / {num(x['delay_s']['p95'], 0)} s" if x["delay_s"]["p50"] is not None else "-", *[num(self.score(d, "test")["classes"].get(c, {}).get("f1")) for d in rest])
        return t

    def headline(self):
        a = self.score("weir", "test")
        t = head("on attack streams", "weir (95 % interval)", "asked for")
        for name, key, want in (("macro-F1, right class", "macro_f1", "≥ 0.85"), ("macro-F1 at intensity ≥ 3×", "macro_f1_3x", "≥ 0.90"), ("macro-F1, class as opened", "macro_f1_opened", ""),
                                ("recall, any class", "recall_any", "≥ 0.95"), ("F1, any class", "f1_any", "≥ 0.90"), ("right scope named", "scope_named", "≥ 0.90"), ("exact scope", "scope_exact", ""),
                                ("`flash_crowd` precision", "flash_crowd_precision", "≥ 0.90"), ("opens per event", "opens_per_event", "≤ 1.2"), ("infos a day", "info_per_day", "≤ 5")):
            t += row(name, span(a, key), want)
        p95 = a.get("bootstrap", {}).get("delay_volumetric_3x_s_p95", [None, None])
        t += row("delay p95, flood and ddos ≥ 3×", f"{num(a['delay_volumetric_3x_s']['p95'], 1)} s ({num(p95[0], 1)}–{num(p95[1], 1)})", "≤ 10 s")
        for q in ("p50", "p95"):
            t += row(f"delay {q}, any class / right class", f"{num(a['delay_any_s'][q], 1)} / {num(a['delay_right_s'][q], 1)} s", "")
        return t

    def quiet(self):
        t = head("", "days", "warnings and criticals a day", "criticals a week", "infos a day", "share of time in alarm", "at natural shifts a day", "false opens by benign cause")
        for s in ("clean", "hard", "cold"):
            x = self.score("weir", s)
            causes = ", ".join(f"{k} {int(v)}" for k, v in sorted(x["false_by_cause"].items(), key=lambda i: -i[1])) or "-"
            t += row(s, num(x["days"], 1), span(x, "false_warnings_per_day"), span(x, "false_criticals_per_week"), num(x["info_per_day"]), f"{100 * (x['false_alarm_time_share'] or 0):.2f} %",
                     num(x["natural_opens_per_day"]), causes)
        return t

    def cold(self):
        t = head("detector", "macro-F1", "recall, any class", "F1, any class", "false ≥ warning a day")
        for d in self.det.names:
            x = self.score(d, "cold")
            t += row(TITLES[d], *([span(x, "macro_f1"), span(x, "recall_any")] if d == "weir" else [num(x["macro_f1"]), num(x["recall_any"])]), num(x["f1_any"]), num(x["false_warnings_per_day"], 1))
        return t

    def confusion(self):
        m = self.score("weir", "test")["confusion"]
        cols = [c for c in CLASSES + ["unbilled_compute", "unknown", "none"] if any(c in r for r in m.values())]
        t = head("truth \\ told", *[f"`{c}`" for c in cols])
        for r in [c for c in CLASSES + ["none"] if c in m]:
            t += row(f"`{r}`", *[str(int(m[r].get(c, 0)) or ".") for c in cols])
        return t

    def spread(self):
        each = sorted((self.score("weir", "test", seed)["f1_any"] or 0, seed) for seed, _ in self.lab.streams["test"])
        n = max(1, round(len(each) / 10))
        worst = ", ".join(f"seed {s}: {f:.2f}" for f, s in each[:n])
        return f"F1 of any class by stream: from {each[0][0]:.2f} to {each[-1][0]:.2f}, half of them above {each[len(each) // 2][0]:.2f}; the worst tenth: {worst}.\n"

    def shapes(self):
        """Streams differ in what their records hold; five fields are not twenty."""
        groups = {}
        for seed, folder in self.lab.streams["test"]:
            m = json.load(open(folder + "/stream.json"))
            f = m.get("fields", [])
            groups.setdefault("five fields" if not f else "without API keys" if "api_key" not in f else "without latency" if "duration_ms" not in f else "with keys and latency", []).append((seed, folder))
        t = head("records", "streams", "labels", "macro-F1", "recall, any class", "F1, any class", "false ≥ warning a day")
        for g, members in sorted(groups.items()):
            cmd = [self.o.weir, "eval", "--json", "--resamples", "0", "--labels", *[f + "/labels.json" for _, f in members], "--events", *[self.det.path("weir", f) for _, f in members]]
            x = json.loads(call(cmd))
            t += row(g, str(len(members)), str(int(x["labels"])), num(x["macro_f1"]), num(x["recall_any"]), num(x["f1_any"]), num(x["false_warnings_per_day"], 1))
        return t

    def write(self):
        meta = [json.load(open(f + "/stream.json")) for s in self.lab.streams.values() for _, f in s]
        records, days = sum(m["records"] for m in meta), sum(m["end"] - m["start"] for m in meta) / 86400
        seeds = ", ".join(f"{s} {v[0][0]}–{v[-1][0]}" for s, v in self.lab.streams.items())
        version = call([self.o.weir, "--version"]).strip()
        text = f"""# Accuracy

Made by `make accuracy`; do not edit. {version}, {len(meta)} streams of the traffic lab ({seeds}), {records:,} records, {days:.0f} days of event time.
The lab's generator is in `tools/lab`: many tenants with restless traffic learnt from public traces, every class of attack at intensities from 1.5× on, and benign surprises.
These are test seeds; nothing was fitted on them. All detectors read the same records and are scored by `weir eval` with the same rules (`man weir-eval`).
The streams are synthetic: what they cannot show is what no one thought of when writing them.

## Against what is asked

{self.headline()}
## Against other methods

{self.methods()}
The baselines are in `tools/accuracy`, {'' if 'forest1' in self.det.names else 'isolation forest left out: no scikit-learn here, '}the static one is `weir replay --detector static`. Only the rules can name a class. The forest learns from the warm-up;
whom it names is whoever weighs most in the window. Delays are of what was seen: a method that sees little may be quick.

## By class

{self.classes()}
In brackets: 95 % intervals, from streams drawn anew with replacement ({self.score('weir', 'test').get('bootstrap', {}).get('resamples', 0)} times, seed 1); where all or nothing was right, the exact binomial bound.

What was said of each event, as last told (rows: truth; `none`: false alarms):

{self.confusion()}
{self.spread()}
## What the records hold

{self.shapes()}
## When nothing is wrong

{self.quiet()}
clean: restless customers only. hard: jobs, launches, migrations, retries, campaigns and other benign surprises. cold: attacks and surprises from the tenth minute of a server's life on.
Rates get the exact Poisson interval where that is wider: no false alarm in T days only shows that there are fewer than 3.7/T a day.

## The first day

{self.cold()}
## Again

    make && make accuracy        # streams and events are kept in build/accuracy; WEIR=path judges another build

    build/weir-lab make --seed {self.lab.streams['test'][0][0]} --kind test --out /tmp/s
    build/weir replay --output json /tmp/s/records.* > /tmp/s/events.jsonl
    build/weir eval --labels /tmp/s/labels.json --events /tmp/s/events.jsonl
"""
        with open(self.o.out + ".part", "w") as f:
            f.write(text)
        os.rename(self.o.out + ".part", self.o.out)


def main():
    ap = argparse.ArgumentParser()
    for a in ("--weir", "--lab", "--cache", "--out"):
        ap.add_argument(a, required=True)
    ap.add_argument("--quick", action="store_true")
    o = ap.parse_args()
    o.weir, o.lab = os.path.abspath(o.weir), os.path.abspath(o.lab)
    began = time.time()
    os.makedirs(os.path.join(o.cache, "streams"), exist_ok=True)
    lab, det = Lab(o), Detectors(o, with_sklearn())
    every = [(sort, seed, folder) for sort, v in lab.streams.items() for seed, folder in v]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda a: lab.make(*a), every))
        jobs = [j for _, _, folder in every for j in det.jobs(folder)]
        for n, _ in enumerate(pool.map(det.run, jobs), 1):
            if sys.stderr.isatty() or n == len(jobs):
                print(f"\raccuracy: {n} of {len(jobs)} runs", end="" if n < len(jobs) else "\n", file=sys.stderr, flush=True)
    Report(o, lab, det).write()
    print(f"accuracy: {o.out} in {time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
