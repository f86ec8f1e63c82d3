#!/usr/bin/env python3
"""Measures weir on this machine, and prints one table. See docs/benchmarks.md.

usage: bench.py [ROW ...]     rows: kernel ratio nginx capture cpu memory start (default: all)
Numbers depend on the machine and on what else it does; ratios are taken in turn, so that drift hits both sides.
"""
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("WEIR_BUILD", ROOT + "/build")
PAIRS = int(os.environ.get("WEIR_BENCH_PAIRS", "8"))
SECONDS = float(os.environ.get("WEIR_BENCH_S", "3"))  # of each half of a pair
WORK = tempfile.mkdtemp(prefix="weir-bench.")
SHORT = '{"model":"weir-tiny","prompt":"The river rises in spring","max_tokens":8,"ignore_eos":true}'
STREAM = '{"model":"weir-tiny","prompt":"The river rises","max_tokens":%d,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}'
started = []
rows = []


def row(what, measured, budget=""):
    rows.append((what, measured, budget))
    print(f"  {what:<58} {measured:>26}   {budget}", flush=True)


def note(text):
    print(f"\n{text}", flush=True)


class Server:
    """The embedded model server on a free port."""

    def __init__(self, *options):
        self.truth = f"{WORK}/truth.{len(started)}.json"
        log = f"{WORK}/server.{len(started)}.log"
        self.proc = subprocess.Popen([BUILD + "/weir-modelserver", "--port", "0", "--truth", self.truth, *options], stderr=open(log, "w"))
        started.append(self.proc)
        self.port = int(wait_text(log, r"ready on .*:(\d+),", self.proc))

    def known(self):
        if os.path.exists(self.truth):
            os.unlink(self.truth)
        self.proc.send_signal(signal.SIGUSR1)
        while not os.path.exists(self.truth):
            time.sleep(0.02)
        return json.load(open(self.truth))

    def end(self):
        self.proc.terminate()
        self.proc.wait()


class Nginx:
    """nginx with a canned answer: the fastest server there is to slow down."""

    def __init__(self):
        self.port = 23000 + os.getpid() % 5000
        os.makedirs(f"{WORK}/nginx", exist_ok=True)
        with open(f"{WORK}/nginx.conf", "w") as f:
            f.write(f"""worker_processes 2; daemon off; pid {WORK}/nginx/pid; error_log {WORK}/nginx/error.log; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {WORK}/nginx/b; proxy_temp_path {WORK}/nginx/p;
fastcgi_temp_path {WORK}/nginx/f; uwsgi_temp_path {WORK}/nginx/u; scgi_temp_path {WORK}/nginx/s;
server {{ listen 127.0.0.1:{self.port}; default_type application/json; location / {{ return 200
'{{"id":"x","model":"canned","choices":[{{"message":{{"role":"assistant","content":"yes"}}}}],"usage":{{"prompt_tokens":7,"completion_tokens":3}}}}'; }} }} }}
""")
        self.proc = subprocess.Popen(["nginx", "-c", f"{WORK}/nginx.conf", "-p", f"{WORK}/nginx"], stderr=subprocess.DEVNULL)
        started.append(self.proc)
        time.sleep(0.5)

    def end(self):
        self.proc.terminate()
        self.proc.wait()


class Weir:
    def __init__(self, port, *options):
        self.err = f"{WORK}/weir.err"
        open(self.err, "w").close()
        self.records = f"{WORK}/records.jsonl"
        if os.path.exists(self.records):
            os.unlink(self.records)
        began = time.monotonic()
        self.proc = subprocess.Popen([BUILD + "/weir", "run", "--port", str(port), "--socket", f"{WORK}/sock", "--output", "json", *options],
                                     stdout=subprocess.DEVNULL, stderr=open(self.err, "w"))
        started.append(self.proc)
        wait_text(self.err, r"weir: (ready)", self.proc)
        self.attach_s = time.monotonic() - began

    def clients(self):
        out = subprocess.run([BUILD + "/weir", "clients", "--json", "--socket", f"{WORK}/sock"], capture_output=True, text=True, check=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def pids(self):
        """weir and the helper processes it started."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.proc.pid)], capture_output=True, text=True).stdout.split()
        return [self.proc.pid, *map(int, children)]

    def cpu_s(self):
        total = 0
        for pid in self.pids():
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        return sum(int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) for pid in self.pids())

    def kernel_bytes(self):
        """Memory of its BPF maps, each map once."""
        maps = {}
        for pid in self.pids():
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                try:
                    text = open(f"/proc/{pid}/fdinfo/{fd}").read()
                except OSError:
                    continue
                m = re.search(r"memlock:\s+(\d+)", text)
                i = re.search(r"map_id:\s+(\d+)", text)
                if m and i:
                    maps[i[1]] = int(m[1])
        return sum(maps.values())

    def programs(self):
        """{name: (runs, ns)} of its own programs."""
        ids = set()
        for pid in self.pids():
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                try:
                    ids.update(re.findall(r"prog_id:\s+(\d+)", open(f"/proc/{pid}/fdinfo/{fd}").read()))
                except OSError:
                    continue
        out = {}
        for p in json.loads(subprocess.run([bpftool(), "-j", "prog", "show"], capture_output=True, text=True, check=True).stdout):
            if str(p["id"]) in ids:
                out[p.get("name", "?")] = (p.get("run_cnt", 0), p.get("run_time_ns", 0))
        return out

    def end(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait()


def bpftool():
    return shutil.which("bpftool") or "/usr/sbin/bpftool"


def wait_text(path, pattern, proc, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        m = re.search(pattern, open(path).read())
        if m:
            return m[1]
        if proc.poll() is not None:
            break
        time.sleep(0.002)
    raise SystemExit(f"bench: {proc.args[0]} did not start: {open(path).read()[-300:]}")


def loadgen(port, *options):
    p = subprocess.run([BUILD + "/weir-loadgen", *map(str, options), f"127.0.0.1:{port}"], capture_output=True, text=True)
    if not p.stdout:
        raise SystemExit(f"bench: the load failed: {p.stderr}")
    return json.loads(p.stdout)


def wrk_rate(port, seconds, connections=64):
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}", f"http://127.0.0.1:{port}/v1/models"], capture_output=True, text=True).stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def set_stats(on):
    """Switches bpf_stats; answers what it was. Two opens: a sysctl takes writes at its beginning only."""
    path = "/proc/sys/kernel/bpf_stats_enabled"
    with open(path) as f:
        before = f.read().strip()
    with open(path, "w") as f:
        f.write(on)
    return before


def delta(before, after):
    return {n: (after[n][0] - before[n][0], after[n][1] - before[n][1]) for n in after if n in before}


def mean_and_error(values):
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) / len(values) ** 0.5:.3f}"


# ---- rows ------------------------------------------------------------------------------------------------------------
def bench_kernel():
    """ns per packet by kind. On loopback every packet runs both hooks: once at a watched socket, once at an unwatched one."""
    note("in the kernel (bpf_stats on: each figure holds some 20 ns of its own clock reads)")
    server, other, paced = Server(), Server(), Server("--tokens-per-s", "3000")
    weir = Weir(server.port, "--port", str(paced.port))
    before_setting = set_stats("1")
    try:
        def measure(port, *load):
            a = weir.programs()
            loadgen(port, *load)
            return delta(a, weir.programs())

        d = measure(other.port, "--requests", 100000, "--body", SHORT)
        unwatched = {n: ns / runs for n, (runs, ns) in d.items() if runs}
        for n, v in sorted(unwatched.items()):
            row(f"unwatched packet, {n}", f"{v:.0f} ns", "<= 80 ns")
        egress = next((n for n in unwatched if "egress" in n), None)
        ingress = next((n for n in unwatched if "ingress" in n), None)
        if not egress or not ingress:
            row("per segment", "n/a: programs not found")
            return
        # paced, so that every write is a segment of its own: the head with the role event, the tokens, usage, [DONE], the end
        tokens, streams = 10000, 5
        d = measure(paced.port, "--requests", streams, "--connections", streams, "--body", STREAM % tokens)
        segments = streams * (tokens + 4)
        runs, ns = d[egress]
        row("SSE segment of about 230 bytes, all in", f"{(ns - (runs - segments) * unwatched[egress]) / segments:.0f} ns", "<= 1200 ns, aim 700")
        runs, ns = d[ingress]
        acks = runs - segments
        if acks > segments / 10:
            row("segment without payload (ACK) at the watched port", f"{(ns - segments * unwatched[ingress]) / acks:.0f} ns", "<= 150 ns")
        n = 100000
        d = measure(server.port, "--requests", n, "--connections", 16, "--body", SHORT)
        row("a request of 1 segment and its answer, both hooks, whole", f"{(d[egress][1] + d[ingress][1]) / n:.0f} ns")
        for name, size in (("4 KB", 4000), ("60 KB", 60000)):
            n = 5000
            body = json.dumps({"model": "weir-tiny", "prompt": "river " * (size // 6), "max_tokens": 1})
            d = measure(server.port, "--requests", n, "--connections", 4, "--body", body)
            row(f"a request with a prompt of {name}, both hooks, whole", f"{(d[egress][1] + d[ingress][1]) / n:.0f} ns")
    finally:
        set_stats(before_setting)
        for each in (weir, server, other, paced):
            each.end()


def pairs(port, measure):
    """Halves with and without weir, in turn; lists of what `measure` answers, [off], [on]."""
    got = {True: [], False: []}
    for pair in range(PAIRS):
        for on in ((False, True) if pair % 2 else (True, False)):
            weir = Weir(port) if on else None
            got[on].append(measure())
            if weir:
                weir.end()
    return got[False], got[True]


def bench_ratio():
    note(f"served rate and latency, weir on : off, {PAIRS} pairs in turn of {SECONDS:.0f} s halves")
    server = Server("--work-us", "170")

    def measure():
        return (loadgen(server.port, "--duration", SECONDS, "--connections", 8, "--body", SHORT)["requests_per_s"],
                loadgen(server.port, "--duration", SECONDS, "--connections", 32, "--rate", 1000, "--body", SHORT)["p99_us"])

    off, on = pairs(server.port, measure)
    server.end()
    row(f"a server of {statistics.mean(r for r, _ in off):.0f} req/s (CPU-bound), on : off", mean_and_error([a / b for (a, _), (b, _) in zip(on, off)]), ">= 0.97")
    row("p99 at a paced 1000 req/s: off, on (medians)", f"{statistics.median(p for _, p in off):.0f} us, {statistics.median(p for _, p in on):.0f} us", "+ <= 50 us")


def bench_nginx():
    if not shutil.which("nginx") or not shutil.which("wrk"):
        row("nginx's canned answer, on : off", "n/a: nginx or wrk missing")
        return
    note(f"nginx's canned answer by wrk, both cores saturated, {PAIRS} pairs in turn")
    server = Nginx()
    off, on = pairs(server.port, lambda: wrk_rate(server.port, int(max(1, SECONDS))))
    server.end()
    row(f"nginx at {statistics.mean(off):.0f} req/s, on : off", mean_and_error([a / b for a, b in zip(on, off)]), "reported; aim 0.80")


def captured(server, weir):
    truth = server.known()["total"]
    seen = weir.clients()
    return sum(c["completion_tokens"] for c in seen) / truth["completion_tokens"], truth, seen


def records(weir):
    """(requests with a record of their own, requests that lost lines stand for)"""
    own = lost = 0
    for line in open(weir.records):
        r = json.loads(line)
        if r.get("lost"):
            lost += r.get("weight", 1)
        else:
            own += 1
    return own, lost


def bench_capture():
    note("usage captured from streams")
    for name, options, load, seconds in (
            ("20k segments/s (100 streams of 200 tokens/s)", ("--tokens-per-s", "200"), ("--requests", 1500, "--connections", 100, "--body", STREAM % 200), None),
            ("unpaced streams of 1,000 tokens", (), ("--requests", 2000, "--connections", 8, "--body", STREAM % 1000), None),
            ("unpaced streams of 100,000 tokens", (), ("--requests", 20, "--connections", 4, "--body", STREAM % 100000), None)):
        server = Server(*options)
        weir = Weir(server.port, "--records-out", f"{WORK}/records.jsonl")
        got = loadgen(server.port, *load)
        time.sleep(0.5)
        share, truth, seen = captured(server, weir)
        weir.end()
        own, lost = records(weir)
        row(f"{name}: tokens counted", f"{share * 100:.4f} %", ">= 99.9 %" if "20k" in name else "100 %")
        row("  at", f"{truth['completion_tokens'] / got['elapsed_s']:.0f} tokens/s")
        row("  requests with a record of their own; in lost lines", f"{own} of {truth['requests']}; {lost}")
        server.end()


def bench_cpu():
    note("the agent's CPU")
    server = Server("--tokens-per-s", "100")
    weir = Weir(server.port, "--records-out", f"{WORK}/records.jsonl")
    loadgen(server.port, "--duration", 3, "--rate", 200, "--connections", 400, "--body", STREAM % 50)
    a, t = weir.cpu_s(), time.monotonic()
    got = loadgen(server.port, "--duration", 20, "--rate", 200, "--connections", 400, "--body", STREAM % 50)
    used, passed = weir.cpu_s() - a, time.monotonic() - t
    row(f"at {got['requests_per_s']:.0f} req/s and {got['requests_per_s'] * 50:.0f} events/s", f"{used / passed * 100:.1f} % of a core", "<= 5 %")
    a, t = weir.cpu_s(), time.monotonic()
    time.sleep(10)
    row("idle", f"{(weir.cpu_s() - a) / (time.monotonic() - t) * 100:.2f} % of a core")
    weir.end()
    server.end()


def bench_memory():
    note("memory")
    server = Server()
    weir = Weir(server.port)
    time.sleep(1)
    row("resident, idle", f"{weir.rss_kib() / 1024:.1f} MiB", "<= 12 MiB")
    row("BPF maps", f"{weir.kernel_bytes() / 1048576:.1f} MiB", "<= 64 MiB")
    loadgen(server.port, "--requests", 20000, "--connections", 200, "--close", "--src", "127.1.0.1", "--src-count", 10000, "--body", SHORT)
    time.sleep(2)
    n = len(weir.clients())
    row(f"resident with {n} clients", f"{weir.rss_kib() / 1024:.1f} MiB", "<= 32 MiB")
    weir.end()
    weir = Weir(server.port, "--max-clients", "131072")
    loadgen(server.port, "--requests", 100000, "--connections", 200, "--close", "--src", "127.1.0.1", "--src-count", 100000, "--body", SHORT)
    time.sleep(2)
    n = len(weir.clients())
    row(f"resident with {n} clients", f"{weir.rss_kib() / 1024:.1f} MiB", "<= 128 MiB")
    row("BPF maps, room for 131072 clients", f"{weir.kernel_bytes() / 1048576:.1f} MiB", "<= 64 MiB")
    weir.end()
    server.end()


def bench_start():
    note("start to attached")
    server, took = Server(), []
    for _ in range(10):
        weir = Weir(server.port)
        took.append(weir.attach_s)
        weir.end()
    row("from exec to ready, mean and worst of 10", f"{statistics.mean(took) * 1e3:.0f} ms, {max(took) * 1e3:.0f} ms", "<= 1000 ms")
    server.end()


def main():
    all_rows = {n[6:]: f for n, f in globals().items() if n.startswith("bench_")}
    wanted = sys.argv[1:] or list(all_rows)
    unknown = [w for w in wanted if w not in all_rows]
    if unknown:
        print(f"bench: no rows {' '.join(unknown)}; there are: {' '.join(all_rows)}", file=sys.stderr)
        return 2
    os.chmod(WORK, 0o711)
    uname = os.uname()
    print(f"weir benchmarks: Linux {uname.release}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    try:
        for w in wanted:
            all_rows[w]()
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
        shutil.rmtree(WORK, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
