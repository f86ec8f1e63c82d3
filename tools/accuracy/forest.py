"""scikit-learn's isolation forest on windows of 10 s: learns from the warm-up, rings where a window is rarer than all but a share of it.

usage: forest.py STREAM-DIR SHARE EVENTS.jsonl [SHARE EVENTS.jsonl]...
"""
import collections, sys
import numpy
from sklearn.ensemble import IsolationForest
from events import Alarms, feeds, read_meta, read_records

BIN, LEARN = 10.0, 3600.0  # s; what it learns from where a stream has no warm-up


class Window:
    def __init__(self):
        self.requests = self.prompt = self.completion = self.ended = self.failed = self.refused = self.waits = self.wait = 0
        self.ips, self.keys, self.agents, self.tokens = collections.Counter(), collections.Counter(), set(), collections.Counter()

    def take(self, r, over):
        if not over:
            self.requests += r.weight
            self.prompt += r.prompt
            self.ips[r.ip] += r.weight
            self.keys[r.key] += r.weight
            self.agents.add(r.agent)
            self.tokens[r.key] += r.prompt
            return
        self.ended += r.weight
        self.completion += r.completion
        self.tokens[r.key] += r.completion
        self.failed += r.failed * r.weight
        self.refused += (r.status in (401, 403, 429)) * r.weight
        if r.ttft is not None:
            self.waits += 1
            self.wait += r.ttft

    def features(self):
        n, m = max(1, self.requests), max(1, self.ended)
        return [self.requests, self.prompt, self.completion, self.prompt / n, self.completion / m, len(self.ips), len(self.keys), len(self.agents), max(self.ips.values(), default=0) / n,
                max(self.tokens.values(), default=0) / max(1, self.prompt + self.completion), self.failed / m, self.refused / m, self.wait / max(1, self.waits)]

    def top(self):
        """Who weighs most in it: the forest itself names nobody."""
        for kind, counts, total in (("client_ip", self.ips, self.requests), ("api_key", self.tokens, self.prompt + self.completion)):
            who, n = max(counts.items(), key=lambda x: x[1], default=(None, 0))
            if who and total and n / total >= 0.1:
                yield kind, who, n / total


def main():
    records, meta = read_records(sys.argv[1]), read_meta(sys.argv[1])
    first = int(records[0].t // BIN) if records else 0
    windows = {}
    for t, r, over in feeds(records):
        w = windows.get(int(t // BIN))
        if w is None:
            w = windows[int(t // BIN)] = Window()
        w.take(r, over)
    last = max(windows, default=first)
    empty = Window()
    X = numpy.array([windows.get(i, empty).features() for i in range(first, last + 1)], dtype=float)
    learn = int(max(meta.get("warmup", 0), LEARN) // BIN)
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(X[:learn])
    score = forest.score_samples(X)
    for share, path in zip(sys.argv[2::2], sys.argv[3::2]):
        alarms, limit = Alarms(path, 60), numpy.quantile(score[:learn], float(share))
        for i in range(learn, len(X)):
            t = (first + i + 1) * BIN
            if score[i] < limit:
                alarms.raised(t, "unknown", "global", "", top=list(windows.get(first + i, empty).top()), score=float(-score[i]))
            alarms.tick(t)
        alarms.finish()


if __name__ == "__main__":
    main()
