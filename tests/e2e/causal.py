"""What weir replay says of the first N lines begins what it says of the whole file, for N all over the file; and the same input gives
the same bytes.

usage: causal.py WEIR FILE CUTS [SEED]

Half of the cuts are drawn at random, half lie where it is tightest: right before and after the line that lets the clock reach an
event. What is kept back until the end would pass as a prefix, too: therefore each event whose tick the clock had reached in the
first N lines must stand in their output.
"""
import bisect, csv, datetime, io, json, os, random, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

LATENESS = 2.0


def stamp(text):
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def replay(weir, data, **env):
    p = subprocess.run([weir, "replay", "--output", "json", "-"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env})
    if p.returncode:
        sys.exit(f"replay ended with {p.returncode}: {p.stderr.decode(errors='replace')[-300:]}")
    return p.stdout


def replay_in_bits(weir, data, R):
    """The same through a pipe, in pieces of all sizes."""
    p = subprocess.Popen([weir, "replay", "--output", "json", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with ThreadPoolExecutor(1) as pool:
        out = pool.submit(p.stdout.read)
        at = 0
        while at < len(data):
            n = R.choice((1, 7, 4096, 65536, 200001))
            p.stdin.write(data[at:at + n])
            p.stdin.flush()
            at += n
        p.stdin.close()
        whole = out.result()
    if p.wait():
        sys.exit(f"replay of a pipe ended with {p.returncode}")
    return whole


def main():
    weir, path, cuts, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1
    R = random.Random(seed)
    lines = open(path, "rb").read().splitlines(keepends=True)
    head = 0
    if path.endswith(".csv"):
        head = 1
        column = next(csv.reader([lines[0].decode()])).index("timestamp")
        times = [stamp(next(csv.reader(io.StringIO(l.decode())))[column]) for l in lines[1:]]
    else:
        times = [stamp(str(json.loads(l)["timestamp"])) for l in lines]
    newest = times[:]
    for i in range(1, len(newest)):
        newest[i] = max(newest[i], newest[i - 1])
    whole = replay(weir, b"".join(lines))
    events = [json.loads(l) for l in whole.splitlines()]
    if not events:
        sys.exit("no event in the whole file: nothing would be shown")
    told = [e["detected"] for e in events]
    if told != sorted(told):
        sys.exit("events are not in the order of their ticks")

    at = set(R.sample(range(1, len(times) + 1), min(cuts - cuts // 2, len(times))))
    for e in R.sample(events, min(cuts // 4 + 1, len(events))):
        # the first line whose arrival takes the watermark to the tick
        i = bisect.bisect_left(newest, e["detected"] + LATENESS)
        at |= {n for n in (i, i + 1) if 0 < n <= len(times)}
    at = sorted(at)[:cuts + 2]
    wrong, spoke = [], 0

    def one(n):
        return n, replay(weir, b"".join(lines[:head + n]))

    with ThreadPoolExecutor(2) as pool:
        for n, out in pool.map(one, at):
            spoke += bool(out)
            due = sum(t <= newest[n - 1] - LATENESS for t in told)
            said = len(out.splitlines())
            if not whole.startswith(out):
                k = next((k for k, (a, b) in enumerate(zip(out.splitlines(), whole.splitlines())) if a != b), said)
                wrong.append(f"the first {n} lines: event {k} is not that of the whole file: {out.splitlines()[k][:200].decode() if k < said else 'it is cut'}")
            elif said < due:
                wrong.append(f"the first {n} lines: {said} events, although the clock had reached {due}")
        same = [pool.submit(replay, weir, b"".join(lines), **env) for env in ({}, {"TZ": "Pacific/Apia", "LC_ALL": "de_DE.UTF-8", "MALLOC_PERTURB_": "165"})]
        wrong += ["the same input gave other bytes" for f in same if f.result() != whole]
    if replay_in_bits(weir, b"".join(lines), R) != whole:
        wrong.append("the same bytes in pieces gave other events")
    for w in wrong[:5]:
        print(w)
    print(f"{len(events)} events of {len(times)} records, {len(at)} cuts, {spoke} of them with events, {len(wrong)} wrong")
    sys.exit(1 if wrong or not spoke else 0)


if __name__ == "__main__":
    main()
