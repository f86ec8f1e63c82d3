#!/usr/bin/env python3
"""The baselines on one stream of the lab, read once.

usage: baselines.py STREAM-DIR [ewma=EVENTS.jsonl] [rules=EVENTS.jsonl] [forest1=EVENTS.jsonl] [forest10=EVENTS.jsonl]

forest1 rings at 0.1 % of the windows that it learns from, forest10 at 1 %.
"""
import sys
import ewma, rules
from events import read_meta, read_records

SHARES = {"forest1": 0.001, "forest10": 0.01}


def main():
    records, meta = read_records(sys.argv[1]), read_meta(sys.argv[1])
    want = dict(a.split("=", 1) for a in sys.argv[2:])
    shares = [(SHARES[k], path) for k, path in want.items() if k in SHARES]
    for name, module in (("ewma", ewma), ("rules", rules)):
        if name in want:
            module.run(records, meta, want[name])
    if shares:
        import forest  # needs scikit-learn, the others do not

        forest.run(records, meta, shares)


if __name__ == "__main__":
    main()
