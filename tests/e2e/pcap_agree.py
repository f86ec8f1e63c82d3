#!/usr/bin/env python3
"""pcap_agree.py LIVE REPLAYED [--without FIELD,...]: request records of a live agent and those made of a capture of the same packets.

Every field must be equal but the host, which a capture does not know, and times: both sides stamp the same packet by themselves, so
these may be apart by what a busy machine takes between two looks at one packet. Order within a client may differ where it had several
connections, so records are matched by what they say, then by time.
"""
import json
import sys

TIMES = ("timestamp", "duration_ms", "ttft_ms")
APART_S = 5.0  # a hang of the machine between hook and tap; what is wrong in kind is wrong by the age of the file


def load(path, without):
    out = {}
    with open(path) as f:
        for line in f:
            r = json.loads(line)
            fixed = {k: v for k, v in r.items() if k not in TIMES and k not in without}
            # whether the first answer's software was known when another connection's request came is a matter of microseconds
            fixed["server"] = fixed.get("server", "").split(" ")[0]
            out.setdefault(json.dumps(fixed, sort_keys=True), []).append(r)
    for rows in out.values():
        rows.sort(key=lambda r: r["timestamp"])
    return out


def main():
    without = {"host"}
    if "--without" in sys.argv:
        without |= set(sys.argv[sys.argv.index("--without") + 1].split(","))
    live, replayed = load(sys.argv[1], without), load(sys.argv[2], without)
    wrong = []
    for key in sorted(set(live) | set(replayed)):
        a, b = live.get(key, []), replayed.get(key, [])
        if len(a) != len(b):
            wrong.append(f"{len(a)} live, {len(b)} replayed: {key[:300]}")
            continue
        for x, y in zip(a, b):
            for t in TIMES:
                scale = 1 if t == "timestamp" else 1000
                if (t in x) != (t in y):
                    wrong.append(f"{t} is there once: {x} {y}")
                elif t in x and abs(x[t] - y[t]) > APART_S * scale:
                    wrong.append(f"{t} {x[t]} live, {y[t]} replayed: {key[:200]}")
    total = sum(map(len, live.values()))
    if not total:
        wrong.append("no records at all")
    for w in wrong[:5]:
        print(w)
    if wrong:
        print(f"{len(wrong)} differences")
        sys.exit(1)
    print(f"{total} records agree")


main()
