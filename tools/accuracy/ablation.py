#!/usr/bin/env python3
"""Leaves each part of the engine out in turn, and writes into docs/detection.md what that costs, by weir eval on streams of the lab.

usage: ablation.py --weir build/weir --lab build/weir-lab --cache build/accuracy --out docs/detection.md [--quick]

The table goes between the two marks in that page. Streams are those of `make accuracy`, a part of them; streams and events are kept in the
same cache. --quick: one small stream of each sort, to see that everything runs.
"""
import argparse, concurrent.futures, json, os, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run
from run import call, content, head, num, records_of, row

run.SORTS = [("test", 1001, 6), ("clean", 1101, 1), ("hard", 1201, 2)]
BEGIN, END = "<!-- make ablation: begin -->\n", "<!-- make ablation: end -->\n"
PARTS = [("", "nothing"), ("season", "`season`: the course of the day and the week"), ("habit", "`habit`: how far everybody strayed before"),
         ("load", "`load`: latency at its load"), ("one-cause", "`one-cause`: side effects belong to their cause"), ("retry", "`retry`: retries are no new demand"),
         ("behaviour", "`behaviour`: how a rise behaves")]


class Ablation:
    def __init__(self, o):
        self.o, self.lab, self.weir = o, run.Lab(o), content(o.weir)

    def path(self, part, folder):
        name = f"without-{part}-{self.weir}" if part else f"weir-{self.weir}"  # as make accuracy calls it
        return os.path.join(self.o.cache, "events", name, os.path.basename(folder) + ".jsonl")

    def replay(self, part, folder):
        path = self.path(part, folder)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as f:
            call([self.o.weir, "replay", "--output", "json", *(["--without", part] if part else []), records_of(folder)], stdout=f)
        os.rename(path + ".part", path)

    def score(self, part, sort):
        folders = [f for _, f in self.lab.streams[sort]]
        return json.loads(call([self.o.weir, "eval", "--json", "--resamples", "0", "--labels", *[os.path.join(f, "labels.json") for f in folders],
                                "--events", *[self.path(part, f) for f in folders]]))

    def moved(self, o, base):
        """The classes whose F1 changed most."""
        d = [(o["classes"].get(c, {}).get("f1"), base["classes"].get(c, {}).get("f1"), c) for c in run.CLASSES]
        d = sorted(((a - b, c) for a, b, c in d if a is not None and b is not None and abs(a - b) >= 0.03), key=lambda x: -abs(x[0]))
        return ", ".join(f"{c} {x:+.2f}" for x, c in d[:3]) or "-"

    def table(self):
        out = head("left out", "macro-F1", "≥ 3×", "recall, any", "F1, any", "opens per event", "false ≥ warning a day: attacks / clean / hard", "F1 that moved")
        base = {s: self.score("", s) for s in ("test", "clean", "hard")}
        for part, words in PARTS:
            s = {k: self.score(part, k) for k in base} if part else base
            t = s["test"]
            out += row(words, num(t["macro_f1"]), num(t["macro_f1_3x"]), num(t["recall_any"]), num(t["f1_any"]), num(t["opens_per_event"]),
                       " / ".join(num(s[k]["false_warnings_per_day"], 1) for k in ("test", "clean", "hard")), self.moved(t, base["test"]) if part else "")
        return out

    def text(self):
        seeds = ", ".join(f"{s} {n}" + (f"–{n + len(v) - 1}" if len(v) > 1 else "") for s, n, _ in run.SORTS for v in [self.lab.streams[s]])
        return f"""Made by `make ablation`; {call([self.o.weir, "--version"]).strip()}, test seeds of the lab ({seeds}), scored by `weir eval`. `weir replay --without PART[,PART]` leaves the same out.

{self.table()}
A row like the first says that these few streams do not show what the part is for; its unit tests do. One part at a time; the others stand in where they can. Feedback is not here, since nobody labels these streams: `tests/unit/test_detect_feedback.c` measures it.
`forest` can be left out too, and has no row: it opens nothing and names no class, so all figures stay. What it says is evidence, and a little of `confidence`.
"""

    def write(self):
        with open(self.o.out) as f:
            page = f.read()
        if page.count(BEGIN) != 1 or page.count(END) != 1:
            raise SystemExit(f"ablation: {self.o.out} lacks its two marks")
        before, rest = page.split(BEGIN)
        text = before + BEGIN + self.text() + END + rest.split(END)[1]
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
    if o.quick:
        run.SORTS = [(sort, seed, 1) for sort, seed, _ in run.SORTS]
    began = time.time()
    os.makedirs(os.path.join(o.cache, "streams"), exist_ok=True)
    a = Ablation(o)
    every = [(sort, seed, folder) for sort, v in a.lab.streams.items() for seed, folder in v]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda x: a.lab.make(*x), every))
        jobs = [(part, folder) for part, _ in PARTS for _, _, folder in every if not os.path.exists(a.path(part, folder))]
        for n, _ in enumerate(pool.map(lambda j: a.replay(*j), jobs), 1):
            if sys.stderr.isatty() or n == len(jobs):
                print(f"\rablation: {n} of {len(jobs)} runs", end="" if n < len(jobs) else "\n", file=sys.stderr, flush=True)
    a.write()
    print(f"ablation: {o.out} in {time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
