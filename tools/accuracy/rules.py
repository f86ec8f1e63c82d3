"""Rules that an engineer writes in an afternoon, who knows the classes and has the records: one threshold each, looked at every 10 s.

The thresholds were looked over once, on tuning streams, never on those that they are scored on. What it knows of the past is the
last hour; for spending the largest five minutes of the last day, and for prompts that grow the last six hours.
"""
import collections, statistics
from events import Alarms, feeds

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
        self.ip, self.asker, self.ip_new, self.agent_new = Sums(3), Sums(3), Sums(3), Sums(3)
        self.key_tokens, self.key_tokens_hour, self.key_requests, self.key_requests_hour = Sums(FIVE), Sums(HOUR), Sums(FIVE), Sums(HOUR)
        self.key_capped, self.key_inject, self.key_hash = Sums(FIVE), Sums(FIVE), Sums(FIVE)
        self.refused, self.failed, self.ended = Sums(MINUTE), Sums(MINUTE), Sums(MINUTE)
        self.five, self.strange = Sums(FIVE), Sums(2 * FIVE)
        self.windows = [v for v in vars(self).values() if isinstance(v, Sums)]
        self.seen_ip, self.key_ips = set(), collections.defaultdict(set)
        self.wait, self.wait_hour = collections.defaultdict(lambda: collections.deque(maxlen=100)), collections.defaultdict(lambda: collections.deque(maxlen=2000))
        self.hours = collections.deque(maxlen=6)  # tokens and requests of each key, by hour
        self.hour = collections.defaultdict(lambda: [0, 0])
        self.peak, self.peaks = collections.Counter(), collections.deque(maxlen=24)  # most tokens in five minutes, by hour
        self.grew = set()

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
            self.asker.add(who, n)
            if r.ip not in self.seen_ip:
                self.seen_ip.add(r.ip)
                self.ip_new.add(r.ip)
                self.agent_new.add(r.agent)
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
            # A long prompt takes long to read.
            wait = r.ttft / (0.5 + r.prompt / 1000) if r.ttft is not None else r.duration / max(1, r.completion) if r.duration is not None and r.completion else None
            if wait is not None:
                self.wait[r.model].append((t, wait))
                self.wait_hour[r.model].append(wait)

    def ring(self, t, cls, kind, value, top=()):
        self.alarms.raised(t, cls, kind, value or "", "critical" if cls in LOUD else "warning", top)

    def volume(self, t):
        now, usual = self.total.sum[""], self.total_hour.sum[""] / min(self.steps, HOUR) * 3
        if now > 2 * usual + 5 * usual ** 0.5 + 8:
            # By key first: an address may be a gateway's.
            who, n = max(self.asker.sum.items(), key=lambda x: x[1])
            ip, m = max(self.ip.sum.items(), key=lambda x: x[1])
            if n > 0.4 * now:
                self.ring(t, "flood", *who, top=[("client_ip", ip, m / now)] if ip and m > 0.4 * now else ())
            elif len(self.ip_new.sum) > 10:
                alike = len(self.agent_new.sum) < 0.2 * len(self.ip_new.sum)
                self.ring(t, "ddos" if alike else "flash_crowd", "global", "")
            elif m > 0.4 * now:
                self.ring(t, "flood", "client_ip", ip)
        five, usual = self.five.sum[""], self.total_hour.sum[""] / min(self.steps, HOUR) * FIVE
        if usual > 25 and five < 0.25 * usual:
            self.ring(t, "traffic_drop", "global", "")

    def keys(self, t):
        for who, n in self.key_requests.sum.items():
            hour = min(self.steps, HOUR) / FIVE
            tokens, usual = self.key_tokens.sum[who], self.key_tokens_hour.sum[who] / hour
            if tokens > 6 * usual and tokens > 100000 and len(self.peaks) >= 3 and tokens > 2 * max(p.get(who, 0) for p in self.peaks):
                self.ring(t, "cost_spike", *who)
            self.peak[who] = max(self.peak[who], tokens)
            if n < 30:
                continue
            if self.key_inject.sum[who] > 0.3 * n:
                self.ring(t, "prompt_probing", *who)
            elif self.key_capped.sum[who] > 0.5 * n and n > 3 * self.key_requests_hour.sum[who] / hour:
                self.ring(t, "scraping", *who)
        for key, n in self.strange.sum.items():
            if n >= 10 and n > 0.5 * len(self.key_ips[key]):
                self.ring(t, "key_sharing", "api_key", key)

    def health(self, t):
        refused = sum(self.refused.sum.values())
        if refused >= 15:
            ip, n = max(self.refused.sum.items(), key=lambda x: x[1])
            self.ring(t, "credential_abuse", *(("client_ip", ip) if n > 0.5 * refused else ("global", "")))
        for model, n in self.failed.sum.items():
            if n >= 5 and n > 0.15 * self.ended.sum[model]:
                self.ring(t, "error_burst", "model", model)
        for model, waits in self.wait.items():
            now = [w for at, w in waits if at > t - 300]
            busy = self.five.sum[""] > 1.5 * self.total_hour.sum[""] / min(self.steps, HOUR) * FIVE
            if not busy and len(now) >= 50 and len(self.wait_hour[model]) >= 500 and statistics.median(now) > 2.5 * statistics.median(self.wait_hour[model]):
                self.ring(t, "latency_regression", "model", model)

    def growth(self, t):
        before, self.grew = self.grew, set()
        self.peaks.append(dict(self.peak))
        self.peak.clear()
        if len(self.hours) == 6:
            for who, (tokens, n) in self.hour.items():
                past = [h[who] for h in self.hours if who in h]
                spent, requests = sum(p[0] for p in past), sum(p[1] for p in past)
                if n >= 30 and requests >= 200 and tokens / n > 1.4 * spent / requests and n < 1.5 * requests / len(past):
                    self.grew.add(who)
                    if who in before:
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


def run(records, meta, path):
    rules, at = Rules(path), None
    for t, r, over in feeds(records):
        if at is None:
            at = t // STEP * STEP + STEP
        while t >= at:
            rules.step(at)
            at += STEP
        rules.take(t, r, over)
    rules.alarms.finish()

