#!/usr/bin/env python3
"""How far weir's estimates are from the truth, on streams that do not report their usage.

usage: estimate.py plan [--api API] [--model M] [--key K] [--clients N] [--pairs N] [--seed S] [--seeded] [--extra JSON]     a plan for driver.py
       estimate.py report NAME LOG.jsonl RECORDS.jsonl [--port N] [--median PCT] [--seeded]            the errors; exit 1 where records do not fit

Each pair is one request sent twice: with usage, which tells the true counts, and without, which weir must estimate. Lengths are fixed by
ignore_eos and max_tokens, or (--seeded, for servers that cannot) left to the seed; there a pair whose streams have not the same number of
events is left out, since the answers were not the same. With one client nothing else runs; with many the server
is loaded, and joins tokens into fewer events. --median: a larger median error of the completions is a failure. Prints `note estimate NAME: ...` with median and 95th percentile of |estimated - true| / true.
"""
import argparse
import collections
import json
import math
import random
import statistics
import sys

TEXTS = (
    "Why does the river rise in spring, and who reads the gauge at night?",
    "Write a short story about a miller, a weir and a wet year.",
    "Wie hoch ist das Wasser heute? Antworte in drei Sätzen, bitte ohne Übertreibung.",
    "川の水はなぜ春に増えるのですか。三つの理由を挙げてください。",
    'def gauge(level):\n    return {"level": level, "alarm": level > 4.2}\n# explain this function',
    "Почему весной поднимается река? Ответь коротко.",
)


def plan(args):
    rng = random.Random(args.seed)
    clients = []
    for i in range(args.clients):
        requests = []
        for _ in range(args.pairs):
            text = " ".join(rng.choice(TEXTS) for _ in range(rng.choice((1, 1, 2, 5, 12))))
            req = {"api": args.api, "stream": True, "prompt": text, "tokens": rng.randint(8, 320), "loose": True,
                   "extra": json.loads(args.extra)}
            # only where it is needed: vLLM 0.32's engine on the CPU dies of a seed in a request whose prompt it reads in pieces
            seed = rng.randint(1, 10**6)
            if args.seeded:
                req["natural"], req["extra"]["seed"] = True, seed
            requests += [{**req, "usage": True}, req]
        clients.append({"src": f"127.0.3.{i + 1}", "hangs_up": args.hangs_up, "requests": requests})
    out = {"model": args.model, "seed": args.seed, "clients": clients}
    if args.key:
        out["key"] = args.key
    print(json.dumps(out))


def rows(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def quantile(values, q):
    """The smallest value that at least the share q does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * q) - 1)]


def report(args):
    log = [r for r in rows(args.log) if r["stream"]]
    seen = collections.defaultdict(list)
    for r in sorted(rows(args.records), key=lambda r: r["timestamp"]):
        if r.get("stream") and not r.get("lost") and (not args.port or r["server"].split(" ")[0].endswith(f":{args.port}")):
            seen[r["client_ip"]].append(r)
    told = collections.defaultdict(list)
    for r in sorted(log, key=lambda r: r["timestamp"]):
        told[r["client_ip"]].append(r)
    bad, apart, errors = [], 0, {"completion": [], "prompt": []}
    for ip, mine in told.items():
        if len(seen[ip]) != len(mine):
            bad.append(f"{ip}: {len(seen[ip])} records of {len(mine)} streams")
            continue
        for a, b in zip(range(0, len(mine), 2), range(1, len(mine), 2)):
            full, bare = seen[ip][a], seen[ip][b]
            if full.get("estimated") or full.get("completion_tokens") != mine[a]["completion_tokens"]:
                bad.append(f"{ip}: {full.get('completion_tokens')} tokens where {mine[a]['completion_tokens']} were told")
            elif not bare.get("estimated"):
                bad.append(f"{ip}: a stream without usage is not flagged as estimated")
            elif args.seeded and mine[a]["deltas"] != mine[b]["deltas"]:
                apart += 1
            else:
                for name, sums in errors.items():
                    true = full[f"{name}_tokens"]
                    got = bare.get(f"{name}_tokens", 0)
                    if true:
                        sums.append(abs(got - true) / true)
    if args.median is not None and errors["completion"] and statistics.median(errors["completion"]) * 100 > args.median:
        bad.append(f"median error above {args.median} %")
    if not errors["completion"]:
        bad.append("nothing to compare")
    else:
        parts = [f"{name} median {statistics.median(v):.1%} p95 {quantile(v, 0.95):.1%}" for name, v in errors.items() if v]
        print(f"note estimate {args.name}: {len(errors['completion'])} streams, {', '.join(parts)}{f', {apart} pairs left out' if apart else ''}")
    for line in bad[:10]:
        print(line, file=sys.stderr)
    return 1 if bad else 0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="what", required=True)
    p = sub.add_parser("plan")
    p.add_argument("--api", default="chat")
    p.add_argument("--model", default="tiny")
    p.add_argument("--key")
    p.add_argument("--clients", type=int, default=1)
    p.add_argument("--pairs", type=int, default=10)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--seeded", action="store_true")
    p.add_argument("--hangs-up", action="store_true")
    p.add_argument("--extra", default="{}")
    r = sub.add_parser("report")
    r.add_argument("name")
    r.add_argument("log")
    r.add_argument("records")
    r.add_argument("--port", type=int)
    r.add_argument("--median", type=float)
    r.add_argument("--seeded", action="store_true")
    args = ap.parse_args()
    return plan(args) if args.what == "plan" else report(args)


if __name__ == "__main__":
    sys.exit(main())
