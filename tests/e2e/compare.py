#!/usr/bin/env python3
"""Holds what weir counted against the truth. Prints every difference; exit 1 if there is one.

usage: compare.py [options] TRUTH.json CLIENTS.jsonl      counters: `weir clients --json` against the truth of a server or driver
       compare.py --records LOG.jsonl RECORDS.jsonl       records: `weir run --records-out` against the driver's --log

  --fields A,B      fields compared (default: all that both have, of the contract)
  --ignore IP,IP    clients left out
  --port N          only this server port of the counters or records
  --v6-prefix N     sum the truth's IPv6 clients by this prefix first (loopback stays whole)
  --crossing        one event per aborted answer may be counted on one side only: a reset and an event can cross in the kernel (the hook
                    sees the reset while a write is still under way), and the last event may have left in part, its count but not its end
  --aborted-more    a client that hung up may have been sent more than it read
  --cut             counters may have more requests than the truth (heads that the server never read), nothing else
"""
import argparse
import collections
import ipaddress
import json
import sys

FIELDS = ("requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens", "cached_tokens",
          "estimated_tokens", "aborted")


def key(ip, prefix):
    """One spelling per client, the prefix cut off."""
    try:
        a = ipaddress.ip_address(ip.split("/")[0].strip("[]"))
    except ValueError:
        return ip
    a = getattr(a, "ipv4_mapped", None) or a
    if a.version == 6 and prefix and not a.is_loopback:
        return str(ipaddress.ip_network(f"{a}/{prefix}", strict=False).network_address)
    return str(a)


def lines(path):
    with (sys.stdin if path == "-" else open(path)) as f:
        return [json.loads(line) for line in f if line.strip()]


def gather(rows, prefix, ignore):
    out = {}
    for row in rows:
        k = key(row["client_ip"], prefix)
        if k in ignore:
            continue
        sums = out.setdefault(k, collections.Counter())
        for f, v in row.items():
            if isinstance(v, int) and not isinstance(v, bool):
                sums[f] += v
    return out


def compare_counters(args, ignore):
    truth = gather(json.load(open(args.truth))["clients"], args.v6_prefix, ignore)
    rows = [r for r in lines(args.seen) if not args.port or r["server"].rsplit(":", 1)[1] == str(args.port)]
    seen = gather(rows, args.v6_prefix, ignore)
    fields = args.fields.split(",") if args.fields else FIELDS
    bad = 0
    for ip in sorted(set(truth) | set(seen)):
        t, s = truth.get(ip, {}), seen.get(ip, {})
        for f in fields:
            want, got = t.get(f, 0), s.get(f, 0)
            crossed = args.crossing and f in ("completion_tokens", "estimated_tokens") and abs(want - got) <= t.get("aborted", 0)
            sent = args.aborted_more and t.get("aborted") and f in ("completion_tokens", "estimated_tokens") and got >= want
            if want != got and not crossed and not sent and not (args.cut and f == "requests" and got > want):
                print(f"{ip}: {f}: weir {got}, truth {want} ({got - want:+d})")
                bad += 1
        if not args.cut and s.get("open"):
            print(f"{ip}: open: {s['open']} after everything was answered")
            bad += 1
    if not truth:
        print("the truth is empty")
    return bad == 0 and bool(truth)


def compare_ends(log, records):
    """How and as what each exchange ended: hung up, kind, finish reason."""

    def aborts(rows):
        return collections.Counter(key(r["client_ip"], 0) for r in rows if r.get("aborted"))

    def ends(rows, names):
        return collections.Counter((key(r["client_ip"], 0), r["path"].split("?")[0], r.get("status"), *(r.get(n) for n in names)) for r in rows
                                   if not r.get("aborted") and all(r.get(n) for n in names))

    bad = [f"{n} hung up without an aborted record: {ip}" for ip, n in (aborts(log) - aborts(records)).items()]
    bad += [f"{n} aborted records too many: {ip}" for ip, n in (aborts(records) - aborts(log)).items()]
    bad += [f"{n} records without the end {end}" for end, n in (ends(log, ["kind"]) - ends(records, ["kind"])).items()]
    return bad + [f"{n} records without the end {end}" for end, n in (ends(log, ["finish_reason"]) - ends(records, ["finish_reason"])).items()]


def compare_records(args, ignore):
    """Every exchange of the log has its record, and no record is without an exchange."""
    bad = []
    names = ("client_ip", "status", "path", "stream", "prompt_tokens", "completion_tokens", "cached_tokens", "model_name")

    def shape(r, of_record):
        reported = r.get("reported") if not of_record else not r.get("estimated") and ("prompt_tokens" in r or "completion_tokens" in r)
        # cached tokens that nobody mentions are none; a 4xx may or may not know its model and stream flag
        failed = (r.get("status") or 0) >= 400
        return (key(r["client_ip"], 0), r.get("status"), r.get("path", "").split("?")[0], None if failed else bool(r.get("stream")),
                *((r.get("prompt_tokens") or 0, r.get("completion_tokens") or 0, r.get("cached_tokens") or 0) if reported else (None,) * 3),
                None if failed else r.get("model_name"))

    log = [r for r in lines(args.truth) if key(r["client_ip"], 0) not in ignore]
    records = [r for r in lines(args.seen) if key(r["client_ip"], 0) not in ignore]
    if args.port:
        records = [r for r in records if r.get("server", "").split(" ")[0].rsplit(":", 1)[-1] == str(args.port)]
    lost = sum(r.get("weight", 1) for r in records if r.get("lost"))
    records = [r for r in records if not r.get("lost")]
    control = sum(1 for r in records if r.get("kind") == "control")
    whole = [r for r in log if not r["aborted"] and r["path"]]
    have = collections.Counter(shape(r, True) for r in records if not r.get("aborted") and not r.get("path", "").startswith("/truth"))
    want = collections.Counter(shape(r, False) for r in whole)
    if args.model_of_request:
        have = collections.Counter(s[:-1] for s in have.elements())
        want = collections.Counter(s[:-1] for s in want.elements())
    for s, n in (want - have).items():
        bad.append(f"{n} without a record: {dict(zip(names, s))}")
    for s, n in (have - want).items():
        bad.append(f"{n} records too many: {dict(zip(names, s))}")
    if args.ends:
        bad += compare_ends([r for r in log if r["path"]], records)
    durations = {}
    for r in whole:
        k = key(r["client_ip"], 0)
        durations[k] = max(durations.get(k, 0), r["duration_ms"])
    # a stream of tokens without text (an end at once, half a character) has no first content for the client, either
    wordless = collections.Counter(key(r["client_ip"], 0) for r in whole if r["stream"] and r["ttft_ms"] is None)
    for r in records:
        ttft, duration = r.get("ttft_ms"), r.get("duration_ms")
        if r.get("kind") not in ("inference", "embedding", "control", "other"):
            bad.append(f"kind {r.get('kind')!r} of {r.get('path')}")
        if r.get("stream") and (r.get("completion_tokens") or 0) > 0 and not r.get("aborted") and ttft is None:
            wordless[key(r["client_ip"], 0)] -= 1
        if wordless[key(r["client_ip"], 0)] < 0:
            wordless[key(r["client_ip"], 0)] = 0
            bad.append(f"no ttft_ms in a stream of {r['completion_tokens']} tokens from {r['client_ip']}")
        if ttft is not None and (ttft < args.ttft_min or (duration is not None and ttft > duration + 0.01)):
            bad.append(f"ttft_ms {ttft} of a request that took {duration} ms (at least {args.ttft_min} ms)")
        # the client's clock ran before the first byte arrived and after the last one left
        if duration is not None and not r.get("aborted") and duration > durations.get(key(r["client_ip"], 0), 1e18) + 1:
            bad.append(f"duration_ms {duration} is longer than any exchange of {r['client_ip']}")
    if lost and not args.lost:
        bad.append(f"{lost} requests lost from the records")
    for line in bad[:25]:
        print(line)
    if len(bad) > 25:
        print(f"... and {len(bad) - 25} more")
    if not whole:
        print("the log is empty")
    print(f"{len(records)} records ({control} control), {len(log)} exchanges, {lost} lost", file=sys.stderr)
    return not bad and bool(whole)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--fields")
    ap.add_argument("--ignore", default="")
    ap.add_argument("--port", type=int)
    ap.add_argument("--v6-prefix", type=int, default=0)
    ap.add_argument("--crossing", action="store_true")
    ap.add_argument("--aborted-more", action="store_true")
    ap.add_argument("--cut", action="store_true")
    ap.add_argument("--records", action="store_true")
    ap.add_argument("--lost", action="store_true", help="records may be lost")
    ap.add_argument("--model-of-request", action="store_true", help="do not compare the model's name")
    ap.add_argument("--ends", action="store_true", help="compare aborted, kind and finish_reason, too")
    ap.add_argument("--ttft-min", type=float, default=0)
    ap.add_argument("truth")
    ap.add_argument("seen")
    args = ap.parse_args()
    ignore = {key(ip, args.v6_prefix) for ip in args.ignore.split(",") if ip}
    return 0 if (compare_records if args.records else compare_counters)(args, ignore) else 1


if __name__ == "__main__":
    sys.exit(main())
