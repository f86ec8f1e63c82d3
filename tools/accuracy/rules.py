"""Rules that an engineer writes in an afternoon, who knows the classes and has the records: one threshold each, looked at every 10 s.

usage: rules.py STREAM-DIR EVENTS.jsonl

Nothing was tuned on the streams that it is scored on. What it knows of the past is the last hour, and for prompts that grow the
last six.
"""
import collections, statistics, sys
from events import Alarms, feeds, read_records

STEP = 10.0
MINUTE, FIVE, HOUR = 6, 30, 360  # in steps
LOUD = {"flood", "ddos", "credential_abuse", "error_burst"}


class Sums:
    """Counts by name over the last n steps."""

    def __init__(self, steps):
        self.steps, self.ring, self.now, self.sum = steps, collections.deque(), collections.Counter(), collections.Counter()

    def add(self, name, n=1):
        self.now[name] += n

    def step(self):
        self.ring.append(self.now)
        self.sum.update(self.now)
        self.now = collections.Counter()
        if len(self.ring) > self.steps:
            for k, v in self.ring.popleft().items():
                self.sum[k] -= v
                if self.sum[k] <= 0:
                    del self.sum[k]


class Rules:
    def __init__(self, path):
        self.alarms, self.steps, self.out = Alarms(path, 120), 0, []
        self.total, self.total_hour = Sums(3), Sums(HOUR)
        self.ip, self.agent, self.ip_new = Sums(3), Sums(3), Sums(3)
        self.key_tokens, self.key_tokens_hour, self.key_requests, self.key_requests_hour = Sums(FIVE), Sums(HOUR), Sums(FIVE), Sums(HOUR)
        self.key_capped, self.key_inject, self.key_hash = Sums(FIVE), Sums(FIVE), Sums(FIVE)
        self.refused, self.failed, self.ended = Sums(MINUTE), Sums(MINUTE), Sums(MINUTE)
        self.five, self.strange = Sums(FIVE), Sums(2 * FIVE)
        self.windows = [v for v in vars(self).values() if isinstance(v, Sums)]
        self.seen_ip, self.key_ips = set(), collections.defaultdict(set)
        self.wait, self.wait_hour = collections.defaultdict(lambda: collections.deque(maxlen=60)), collections.defaultdict(lambda: collections.deque(maxlen=2000))
        self.hours = collections.deque(maxlen=6)  # tokens and requests of each key, by hour
        self.hour = collections.defaultdict(lambda: [0, 0])

    @staticmethod
    def who(r):
        return ("api_key", r.key) if r.key else ("user", r.user) if r.user else ("client_ip", r.ip or "")

    def take(self, t, r, over):
        who, n = self.who(r), r.weight
        if not r.work:
            return
        if not over:
            self.total.add("", n)
            self.total_hour.add("", n)
            self.five.add("", n)
            self.ip.add(r.ip, n)
            self.agent.add(r.agent, n)
            if r.ip not in self.seen_ip:
                self.seen_ip.add(r.ip)
                self.ip_new.add(r.ip)
            if r.key and r.ip not in self.key_ips[r.key]:
                if len(self.key_ips[r.key]) < 100000:
                    self.key_ips[r.key].add(r.ip)
                if self.steps > HOUR:
                    self.strange.add(r.key)
            for w in (self.key_requests, self.key_requests_hour):
                w.add(who, n)
            if r.hash:
                self.key_hash.add((who, r.hash))
            if (r.injection or 0) > 0.5:
                self.key_inject.add(who)
            return
        tokens = r.prompt + r.completion
        self.key_tokens.add(who, tokens)
        self.key_tokens_hour.add(who, tokens)
        self.hour[who][0] += tokens
        self.hour[who][1] += n
        if r.capped:
            self.key_capped.add(who)
        self.ended.add(r.model, n)
        if r.failed:
            self.failed.add(r.model, n)
        if r.status in (401, 403):
            self.refused.add(r.ip, n)
        if r.status is None or r.status < 400:
            wait = r.ttft if r.ttft is not None else r.duration / max(1, r.completion) if r.duration is not None and r.completion else None
            if wait is not None:
                self.wait[r.model].append((t, wait))
                self.wait_hour[r.model].append(wait)

    def ring(self, t, cls, kind, value, top=()):
        self.alarms.raised(t, cls, kind, value or "", "critical" if cls in LOUD else "warning", top)

    def volume(self, t):
        now, usual = self.total.sum[""], self.total_hour.sum[""] / min(self.steps, HOUR) * 3
        if now > 3 * usual and now > 30:
            ip, n = max(self.ip.sum.items(), key=lambda x: x[1])
            if n > 0.4 * now:
                self.ring(t, "flood", "client_ip", ip)
            elif len(self.ip_new.sum) > 10:
                alike = max(self.agent.sum.values(), default=0) > 0.6 * now
                self.ring(t, "ddos" if alike else "flash_crowd", "global", "")
        five, usual = self.five.sum[""], self.total_hour.sum[""] / min(self.steps, HOUR) * FIVE
        if usual > 50 and five < 0.3 * usual:
            self.ring(t, "traffic_drop", "global", "")

    def keys(self, t):
        for who, n in self.key_requests.sum.items():
            hour = min(self.steps, HOUR) / FIVE
            tokens, usual = self.key_tokens.sum[who], self.key_tokens_hour.sum[who] / hour
            if tokens > 4 * usual and tokens > 100000:
                self.ring(t, "cost_spike", *who)
            if n < 30:
                continue
            if self.key_inject.sum[who] > 0.3 * n:
                self.ring(t, "prompt_probing", *who)
            elif self.key_capped.sum[who] > 0.5 * n and n > 2 * self.key_requests_hour.sum[who] / hour:
                self.ring(t, "scraping", *who)
        for key, n in self.strange.sum.items():
            if n >= 10 and n > 0.5 * len(self.key_ips[key]):
                self.ring(t, "key_sharing", "api_key", key)

    def health(self, t):
        refused = sum(self.refused.sum.values())
        if refused >= 30:
            ip, n = max(self.refused.sum.items(), key=lambda x: x[1])
            self.ring(t, "credential_abuse", *(("client_ip", ip) if n > 0.5 * refused else ("global", "")))
        for model, n in self.failed.sum.items():
            if n >= 10 and n > 0.2 * self.ended.sum[model]:
                self.ring(t, "error_burst", "model", model)
        for model, waits in self.wait.items():
            now = [w for at, w in waits if at > t - 300]
            if len(now) >= 20 and len(self.wait_hour[model]) >= 500 and statistics.median(now) > 2 * statistics.median(self.wait_hour[model]):
                self.ring(t, "latency_regression", "model", model)

    def growth(self, t):
        if len(self.hours) == 6:
            for who, (tokens, n) in self.hour.items():
                past = [h[who] for h in self.hours if who in h]
                before, requests = sum(p[0] for p in past), sum(p[1] for p in past)
                if n >= 50 and requests >= 200 and tokens / n > 1.5 * before / requests and n < 1.5 * requests / len(past):
                    self.ring(t, "token_growth", *who)
        self.hours.append(dict(self.hour))
        self.hour.clear()

    def step(self, t):
        for w in self.windows:
            w.step()
        self.steps += 1
        if self.steps % HOUR == 0:
            self.growth(t)
        if self.steps > FIVE:
            self.volume(t)
            self.keys(t)
            if self.steps % 3 == 0:
                self.health(t)
        self.alarms.tick(t)


def main():
    rules, at = Rules(sys.argv[2]), None
    for t, r, over in feeds(read_records(sys.argv[1])):
        if at is None:
            at = t // STEP * STEP + STEP
        while t >= at:
            rules.step(at)
            at += STEP
        rules.take(t, r, over)
    rules.alarms.finish()


if __name__ == "__main__":
    main()
