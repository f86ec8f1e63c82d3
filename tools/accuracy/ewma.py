"""Requests a minute of each client address against its own moving average: mean + 3 sd. The rule that every dashboard has.

usage: ewma.py STREAM-DIR EVENTS.jsonl
"""
import math, sys
from events import Alarms, read_records

BIN, ALPHA, SIGMA, LEARN = 60.0, 0.1, 3.0, 5  # s, weight of a new minute, deviations, minutes before the first word


class Client:
    __slots__ = ("mean", "var", "minutes", "bin", "count", "told")

    def __init__(self, b):
        self.mean = self.var = 0.0
        self.minutes, self.bin, self.count, self.told = 0, b, 0, False

    def learn(self, x):
        a = max(ALPHA, 1 / (self.minutes + 1))
        d = x - self.mean
        self.mean += a * d
        self.var = (1 - a) * (self.var + a * d * d)
        self.minutes += 1

    def close(self, until):
        """The minute that ended, and the silent ones since."""
        self.learn(self.count)
        for _ in range(min(until - self.bin - 1, 100)):  # by then little is left of what was
            self.learn(0)
        self.bin, self.count, self.told = until, 0, False


def main():
    alarms, clients, tick = Alarms(sys.argv[2], 120), {}, None
    for r in read_records(sys.argv[1]):
        b = int(r.t // BIN)
        if tick is not None and b > tick:
            alarms.tick(b * BIN)
        tick = b
        who = ("client_ip", r.ip) if r.ip else ("api_key", r.key) if r.key else ("user", r.user)
        c = clients.get(who)
        if c is None:
            c = clients[who] = Client(b)
        if b > c.bin:
            c.close(b)
        c.count += r.weight
        # It need not wait for the end of the minute: above the band is above the band.
        if c.minutes >= LEARN and c.count > c.mean + SIGMA * math.sqrt(c.var) and c.count > 1:
            alarms.raised(r.t, "unknown", who[0], who[1] or "", score=(c.count - c.mean) / math.sqrt(c.var) if c.var > 0 else 99)
    alarms.finish()


if __name__ == "__main__":
    main()
