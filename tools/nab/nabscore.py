"""How the Numenta Anomaly Benchmark scores a detector, written from its description (docs/nab.md says what is meant).

Every row of a series has a worth that does not depend on the detector: inside a window the worth falls from 1 at its
left edge towards 0 at its right one, and only the best row at or above the threshold counts; outside, every row at or
above it costs, less shortly after a window. A window without such a row costs, too. One threshold serves the whole
corpus; it is the one that gives the most, per profile.
"""
import csv
import json
import math
import os

# true positive, false positive, missed window
PROFILES = {"standard": (1.0, 0.11, 1.0), "low FP": (1.0, 0.22, 1.0), "low FN": (1.0, 0.11, 2.0)}
PROBATION_SHARE = 0.15  # of the rows, of at most 5000
PROBATION_ROWS = 5000


def falling(x):
    """From nearly 1 at x = -1 through 0 at 0 to -1."""
    return -1.0 if x > 3 else 2 / (1 + math.exp(5 * x)) - 1


class Series:
    """One file: where its windows are (row numbers, both ends belong to them), and what each row is worth."""

    def __init__(self, name, times, values, windows):
        self.name, self.times, self.values = name, times, values
        self.rows = len(times)
        self.probation = math.floor(PROBATION_SHARE * min(self.rows, PROBATION_ROWS))
        at = {t: i for i, t in enumerate(times)}
        self.windows = [(at[a[:19]], at[b[:19]]) for a, b in windows]
        self.window_of = [-1] * self.rows
        self.gain = [0.0] * self.rows  # inside a window
        self.cost = [-1.0] * self.rows  # outside
        for w, (left, right) in enumerate(self.windows):
            width = right - left + 1
            for i in range(left, right + 1):
                self.window_of[i] = w
                self.gain[i] = falling(-(right - i + 1) / width) / falling(-1)
            for i in range(right + 1, self.rows):
                self.cost[i] = falling((i - right) / max(width - 1, 1))

    def events(self, scores):
        """(score, window or -1, unweighted worth) of the rows that can count at all."""
        return [(s, self.window_of[i], self.gain[i] if self.window_of[i] >= 0 else self.cost[i])
                for i, s in enumerate(scores) if s > 0 and i >= self.probation]


def load(root, only=None):
    """The corpus below root: data/<category>/<file>.csv and windows.json."""
    with open(os.path.join(root, "windows.json")) as f:
        windows = json.load(f)
    corpus = []
    for name in sorted(windows):
        path = os.path.join(root, "data", name)
        if (only and not only(name)) or not os.path.exists(path):
            continue
        with open(path, newline="") as f:
            rows = [(r["timestamp"][:19], float(r["value"])) for r in csv.DictReader(f)]
        corpus.append(Series(name, [r[0] for r in rows], [r[1] for r in rows], windows[name]))
    return corpus


def raw_score(events, n_windows, weights, threshold):
    """What these events are worth at a threshold, before normalising."""
    tp, fp, fn = weights
    best, total = {}, 0.0
    for score, key, worth in events:
        if score < threshold:
            continue
        if key is None:
            total += fp * worth
        else:
            best[key] = max(best.get(key, -math.inf), tp * worth)
    return total + sum(best.values()) - fn * (n_windows - len(best))


def gather(corpus, scores):
    """All events of a corpus, windows keyed by (series, window), highest score first."""
    all_events = []
    for n, (series, s) in enumerate(zip(corpus, scores)):
        all_events += [(e[0], None if e[1] < 0 else (n, e[1]), e[2]) for e in series.events(s)]
    all_events.sort(key=lambda e: -e[0])
    return all_events


def best_threshold(events, n_windows, weights):
    """The threshold that gives the most, and what it gives. Above every score: nothing is detected."""
    tp, fp, fn = weights
    best, total = {}, -fn * n_windows
    top, at = total, 1.1
    for i, (score, key, worth) in enumerate(events):
        if key is None:
            total += fp * worth
        elif key not in best:
            best[key] = tp * worth
            total += fn + tp * worth
        elif tp * worth > best[key]:
            total += tp * worth - best[key]
            best[key] = tp * worth
        if (i + 1 == len(events) or events[i + 1][0] < score) and total > top:
            top, at = total, score
    return top, at


def normalise(raw, n_windows, weights):
    """0: a detector that never speaks; 100: every window at its left edge and nothing else."""
    tp, _, fn = weights
    return 100 * (raw + fn * n_windows) / ((tp + fn) * n_windows)


def score(corpus, scores):
    """{profile: (score, threshold)}"""
    events, n = gather(corpus, scores), sum(len(s.windows) for s in corpus)
    result = {}
    for name, weights in PROFILES.items():
        raw, at = best_threshold(events, n, weights)
        result[name] = (normalise(raw, n, weights), at)
    return result
