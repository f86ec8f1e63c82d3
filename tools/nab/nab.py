#!/usr/bin/env python3
"""weir on the Numenta Anomaly Benchmark: scores, cross-validation, sensitivity, into docs/nab.md. Run by run.sh."""
import argparse
import concurrent.futures
import csv
import os
import random
import subprocess
import sys

import nabscore

CATEGORY_NAMES = {"artificialNoAnomaly": "made, nothing in it", "artificialWithAnomaly": "made, with anomalies",
                  "realAWSCloudwatch": "servers", "realTraffic": "roads"}
# The constants of src/detect/series.c, with their values there: checked against the program by agree().
CONSTANTS = {"beyond": 0.01, "surprise": 0.5, "memory": 0.25, "memory_rows": 500, "quiet_rows": 30, "louder": 2,
             "keep": 2000, "rows1": 6, "rows2": 12, "rows3": 24, "blocks0": 24, "blocks1": 24, "blocks2": 24, "blocks3": 24}
HALVES = 50
# What is left out, and by which constants.
WITHOUT = {"values outside the range": {"beyond": 1e12}, "shapes": {"surprise": 1e12}, "the quiet time after an alarm": {"quiet_rows": 0}}


def range_rule(share):
    """The rule to beat: 1 where a value lies outside all before it by a share of their range."""
    def rule(values):
        low = high = values[0]
        out = []
        for v in values:
            m = (high - low) * share
            out.append(1.0 if high > low and (v > high + m or v < low - m) else 0.0)
            low, high = min(low, v), max(high, v)
        return out
    return rule


def ewma_rule(values, a=0.002):
    """z of the value by exponential mean and variance, on a scale of 0 to 1."""
    m, var, out = values[0], 0.0, []
    for n, v in enumerate(values, 1):
        d, k = v - m, max(a, 1 / n)
        z = abs(d) / var ** 0.5 if var > 0 else 0.0
        out.append(z / (z + 3))
        m += k * d
        var = (1 - k) * (var + k * d * d)
    return out


class Lab:
    """Scores of the whole corpus under other constants, from the product's own C."""

    def __init__(self, program, corpus):
        self.program = program
        self.text = "\n".join("".join(f"{v!r}\n" for v in s.values) for s in corpus)

    def __call__(self, **constants):
        args = [f"{k}={v}" for k, v in constants.items()]
        done = subprocess.run([self.program, *args], input=self.text, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{self.program}: {done.stderr.strip()}")
        return [[float(x) for x in block.split("\n") if x] for block in done.stdout.split("\n\n")]


def weir_scores(weir, root, series):
    """What `weir eval --series` says; it must answer each row, in order."""
    path = os.path.join(root, "data", series.name)
    done = subprocess.run([weir, "eval", "--series", path], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"weir eval --series {path}: {done.stderr.strip()}")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if [r["timestamp"][:19] for r in rows] != series.times:
        sys.exit(f"weir eval --series {path}: other rows than in the file")
    return [float(r["anomaly_score"]) for r in rows]


def category(series):
    return series.name.split("/")[0]


def part(corpus, scores, chosen):
    """The events and the number of windows of some series."""
    c = [(s, x) for s, x in zip(corpus, scores) if chosen(s)]
    series, values = [p[0] for p in c], [p[1] for p in c]
    return nabscore.gather(series, values), sum(len(s.windows) for s in series)


def cross(corpus, variants, folds):
    """Threshold (and constants, of several variants) chosen where the fold is not; what they give on it. {profile: %}"""
    result = {}
    for profile, weights in nabscore.PROFILES.items():
        raw = windows = 0
        for fold in folds:
            best = None
            for scores in variants:
                events, n = part(corpus, scores, lambda s: not fold(s))
                gain, at = nabscore.best_threshold(events, n, weights)
                if best is None or gain > best[0]:
                    best = (gain, at, scores)
            events, n = part(corpus, best[2], fold)
            raw += nabscore.raw_score(events, n, weights, best[1])
            windows += n
        result[profile] = nabscore.normalise(raw, windows, weights)
    return result


def by_category(corpus):
    return [lambda s, c=c: category(s) == c for c in sorted({category(s) for s in corpus})]


def halves(corpus, seed):
    names = [s.name for s in corpus]
    random.Random(seed).shuffle(names)
    half = set(names[:len(names) // 2])
    return [lambda s: s.name in half, lambda s: s.name not in half]


def row(name, figures):
    return f"| {name} | " + " | ".join(f"{figures[p]:.1f}" for p in nabscore.PROFILES) + " |"


def tables(corpus, scores, lab):
    out = []
    head = "| | " + " | ".join(nabscore.PROFILES) + " |\n|---|" + "---|" * len(nabscore.PROFILES)
    total = nabscore.score(corpus, scores)
    plain = {p: v[0] for p, v in total.items()}
    n = sum(len(s.windows) for s in corpus)

    out += [f"**Scores** on {len(corpus)} series, {n} windows, {sum(s.rows for s in corpus)} rows; one threshold for all, "
            "the best per profile, as on NAB's scoreboard:", "", head, row("weir", plain),
            "| threshold | " + " | ".join(f"{total[p][1]:.3f}" for p in nabscore.PROFILES) + " |"]
    fixed = {}
    for p, weights in nabscore.PROFILES.items():
        events, k = part(corpus, scores, lambda s: True)
        fixed[p] = nabscore.normalise(nabscore.raw_score(events, k, weights, 0.5), k, weights)
    out.append(row("weir, threshold 0.5, not optimised", fixed))
    for name, rule in (("outside the range so far by 1 %", range_rule(.01)), ("outside the range so far by 5 %", range_rule(.05)),
                       ("EWMA z, a = .002", ewma_rule)):
        out.append(row(name, {p: v[0] for p, v in nabscore.score(corpus, [rule(s.values) for s in corpus]).items()}))

    for what, constants in WITHOUT.items():
        out.append(row(f"weir without {what}", {p: v[0] for p, v in nabscore.score(corpus, lab(**constants)).items()}))

    out += ["", "**By kind** (the threshold of the whole corpus, profile standard):", "", "| kind | series | windows | found | false rows |", "|---|---|---|---|---|"]
    at = total["standard"][1]
    for c in sorted({category(s) for s in corpus}):
        events, k = part(corpus, scores, lambda s, c=c: category(s) == c)
        events = [e for e in events if e[0] >= at]
        out.append(f"| {CATEGORY_NAMES.get(c, c)} | {sum(category(s) == c for s in corpus)} | {k} | "
                   f"{len({e[1] for e in events if e[1]})} | {sum(e[1] is None for e in events)} |")

    steps = [(name, f) for name in CONSTANTS for f in (0.75, 1.25)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        def vary(step):
            value = CONSTANTS[step[0]] * step[1]
            return lab(**{step[0]: round(value) if step[0] not in ("beyond", "surprise", "memory") else value})
        varied = dict(zip(steps, pool.map(vary, steps)))

    out += ["", "**Cross-validation**: what was chosen on one part is judged on the other.", "", head,
            row("threshold from the other kinds", cross(corpus, [scores], by_category(corpus))),
            row("threshold and constants (of the variants below) from the other kinds",
                cross(corpus, [scores, *varied.values()], by_category(corpus)))]
    split = [cross(corpus, [scores], halves(corpus, seed)) for seed in range(HALVES)]
    out.append(row(f"threshold from the other half, mean of {HALVES} random halvings", {p: sum(x[p] for x in split) / HALVES for p in plain}))
    out.append(row("the same, worst halving", {p: min(x[p] for x in split) for p in plain}))

    out += ["", "**Sensitivity**: each constant of `src/detect/series.c` a quarter smaller and larger; change in points.", "",
            "| constant | value | " + " | ".join(f"{p} −25 % | {p} +25 %" for p in ("standard", "low FP")) + " |", "|---|---|---|---|---|---|"]
    for name, value in CONSTANTS.items():
        cells = []
        for p in ("standard", "low FP"):
            cells += [f"{nabscore.score(corpus, varied[name, f])[p][0] - plain[p]:+.1f}" for f in (0.75, 1.25)]
        out.append(f"| {name} | {value} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n", plain


def write_results(folder, corpus, scores):
    """In the layout that NAB's own scorer reads (results/weir/CATEGORY/weir_FILE.csv)."""
    for series, s in zip(corpus, scores):
        kind, name = series.name.split("/")
        os.makedirs(os.path.join(folder, "weir", kind), exist_ok=True)
        with open(os.path.join(folder, "weir", kind, "weir_" + name), "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["timestamp", "value", "anomaly_score", "label"])
            for i in range(series.rows):
                out.writerow([series.times[i], series.values[i], f"{s[i]:.9g}", int(series.window_of[i] >= 0)])


def put_into(path, text):
    """Between the two marks of the page; the rest is written by hand."""
    begin, end = "<!-- generated by make nab -->\n", "<!-- end -->\n"
    with open(path) as f:
        page = f.read()
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    with open(path, "w") as f:
        f.write(head + begin + text + end + tail)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with windows.json and data/")
    parser.add_argument("--weir", required=True)
    parser.add_argument("--lab", required=True)
    parser.add_argument("--page", help="put the tables there")
    parser.add_argument("--results", help="write scores here, for NAB's own scorer, and nothing else")
    args = parser.parse_args()

    corpus = nabscore.load(args.data)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(lambda s: weir_scores(args.weir, args.data, s), corpus))
    if args.results:
        write_results(args.results, corpus, scores)
        return
    lab = Lab(args.lab, corpus)
    for constants in ({}, CONSTANTS):
        if lab(**constants) != scores:
            sys.exit("nab-lab and weir eval --series disagree, or CONSTANTS are not those of the program")
    text, plain = tables(corpus, scores, lab)
    print(text)
    if args.page:
        put_into(args.page, text)
    print("standard %.2f, low FP %.2f, low FN %.2f" % tuple(plain.values()))


if __name__ == "__main__":
    main()
