#!/usr/bin/env bash
# The demo: a real model server (small, but it tokenizes and generates), ten clients in calm traffic, then one of them floods it, then
# another burns tokens at an unchanged request rate. weir attaches from outside, and must name both. About 75 s.
# Exit 0 only if both were caught, with the right class and client, nobody else was blamed, and every client's tokens equal the truth.
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${WEIR_BUILD:-$ROOT/build}
PYTHON=${PYTHON:-python3}
CALM=${WEIR_DEMO_CALM_S:-22} # seconds of calm before each attack
FLOODER=127.0.0.20 SPENDER=127.0.0.13
WORK=$(mktemp -d "${TMPDIR:-/tmp}/weir-demo.XXXXXX")
chmod 711 "$WORK"
PIDS=()

cleanup() {
	local p
	for p in "${PIDS[@]}"; do kill "$p" 2>/dev/null; done
	wait 2>/dev/null
	rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
die() { echo "demo: $1" >&2; exit 1; }
say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
[ -t 1 ] || say() { printf '\n%s\n' "$1"; }

[ "$(id -u)" -eq 0 ] || die "attaching needs root: sudo make demo"
for tool in "$BUILD/weir" "$BUILD/weir-modelserver" "$BUILD/weir-loadgen"; do [ -x "$tool" ] || die "$tool is not built: make"; done
command -v "$PYTHON" >/dev/null || die "python3 is not installed"

wait_text() { # wait_text PID FILE TEXT
	local i
	for ((i = 0; i < 200; i++)); do
		grep -q -- "$3" "$2" 2>/dev/null && return 0
		kill -0 "$1" 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}

say "1. A model server starts"
"$BUILD/weir-modelserver" --port 0 --tokens-per-s 2000 --truth "$WORK/truth.json" 2>"$WORK/server.log" &
SERVER=$!
PIDS+=($SERVER)
wait_text $SERVER "$WORK/server.log" ready || die "the model server did not start: $(cat "$WORK/server.log")"
PORT=$(sed -n 's/.*ready on .*:\([0-9]*\),.*/\1/p' "$WORK/server.log")
echo "   OpenAI-compatible, 127.0.0.1:$PORT, pid $SERVER; it knows nothing of weir"

say "2. weir attaches"
"$BUILD/weir" run --port "$PORT" --output json --records-out "$WORK/records.jsonl" --socket "$WORK/sock" --duration 85 \
	>"$WORK/events.jsonl" 2>"$WORK/weir.log" &
WEIR=$!
PIDS+=($WEIR)
wait_text $WEIR "$WORK/weir.log" 'weir: ready' || die "weir did not attach: $(tail -3 "$WORK/weir.log")"
echo "   eBPF at the root cgroup, pid $WEIR, no proxy, no change to the server"
BEGAN=$(date +%s.%N)

say "3. Ten clients (127.0.0.11-20) talk to it, calmly, for $CALM s"
"$PYTHON" - "$FLOODER" "$SPENDER" "$CALM" >"$WORK/plan.json" <<'PY'
import json, sys
flooder, spender, calm = sys.argv[1], sys.argv[2], int(sys.argv[3])
end = calm + 12 + 8 + 24
mix = [{"stream": True, "usage": True, "tokens": 24, "natural": True, "repeat": 3}, {"tokens": 16, "natural": True, "repeat": 2},
       {"stream": True, "tokens": 20, "natural": True}, {"api": "embedding"}]
def client(ip, duration, start=0, requests=mix):
    return {"src": ip, "parallel": 2, "rate": 1, "start": start, "duration": duration, "requests": requests}
clients = [client(f"127.0.0.{i}", end) for i in range(11, 21) if f"127.0.0.{i}" != spender]
burn = [{"stream": True, "usage": True, "tokens": 900, "prompt_bytes": 9000}]
clients += [client(spender, calm + 20), client(spender, 24, calm + 20, burn)]
json.dump({"clients": clients}, sys.stdout)
PY
"$PYTHON" "$ROOT/tests/e2e/driver.py" "127.0.0.1:$PORT" "$WORK/plan.json" >"$WORK/told.json" &
DRIVER=$!
PIDS+=($DRIVER)

# what weir says, while it says it
"$PYTHON" -u - "$WORK/events.jsonl" "$BEGAN" <<'PY' &
import json, sys, time
began, f, rest = float(sys.argv[2]), open(sys.argv[1]), ""
while True:
    rest += f.read()
    while "\n" in rest:
        line, rest = rest.split("\n", 1)
        e = json.loads(line)
        if e["event"] == "update":
            continue
        print(f"   [{e['detected'] - began:5.1f} s] weir: {e['event']} {e['severity']} {e['class']} {e['scope']['kind']} {e['scope']['value']}".rstrip())
        print(f"             {e['summary']}")
        for v in e["evidence"][:3] if e["event"] == "open" else []:
            print(f"             {v['feature']}: {v['observed']:.4g}, expected {v['expected']:.4g} ({v['sigma']:.1f} sigma)")
    time.sleep(0.2)
PY
PIDS+=($!)

sleep "$CALM"
say "4. $FLOODER floods it: 400 requests/s for 12 s"
FLOOD_AT=$(date +%s.%N)
"$BUILD/weir-loadgen" --rate 400 --duration 12 --connections 16 --src $FLOODER \
	--body '{"model":"weir-tiny","prompt":"The river rises","max_tokens":8}' "127.0.0.1:$PORT" >"$WORK/flood.json" || die "the flood failed: $(cat "$WORK/flood.json")"
sleep 8
say "5. $SPENDER burns tokens: long prompts, long answers, at its usual request rate, for 24 s"
SPIKE_AT=$(date +%s.%N)
wait $DRIVER || die "the clients failed: $(cat "$WORK/told.json")"
sleep 1
"$BUILD/weir" clients --json --socket "$WORK/sock" >"$WORK/clients.jsonl" || die "weir clients failed"
kill -INT $WEIR
wait $WEIR || die "weir ended with status $?: $(tail -3 "$WORK/weir.log")"
kill -TERM $SERVER
wait $SERVER

say "6. What weir caught"
"$PYTHON" - "$WORK" "$FLOODER" "$FLOOD_AT" "$SPENDER" "$SPIKE_AT" <<'PY'
import json, sys
work, flooder, flood_at, spender, spike_at = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], float(sys.argv[5])
events = [json.loads(line) for line in open(work + "/events.jsonl")]
opened = [e for e in events if e["event"] == "open"]
bad = 0
for cls, client, at in (("flood", flooder, flood_at), ("cost_spike", spender, spike_at)):
    mine = [e for e in opened if e["class"] == cls and (client in e["scope"]["value"] or client in [t["value"] for t in e["top"][:1]])]
    if mine:
        e = mine[0]
        print(f"   {cls} by {client}: detected {e['detected'] - at:.1f} s after its first request, score {e['score']:.1f}, confidence {e['confidence']:.2f}")
    else:
        print(f"   {cls} by {client}: MISSED")
        bad += 1
for e in opened:
    if e["scope"]["kind"] == "client_ip" and e["scope"]["value"] not in (flooder, spender) and e["severity"] != "info":
        print(f"   {e['class']} blamed on {e['scope']['value']}: WRONG")
        bad += 1
truth = {c["client_ip"]: c for c in json.load(open(work + "/truth.json"))["clients"]}
seen = {c["client_ip"]: c for c in map(json.loads, open(work + "/clients.jsonl"))}
fields = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens")
print("\n   per client, as weir counted in the kernel (= : equal to the server's own count)")
print("   " + "client".ljust(14) + "".join(f.rjust(20) for f in fields))
for ip in sorted(set(truth) | set(seen), key=lambda a: tuple(map(int, a.split(".")))):
    cells = ""
    for f in fields:
        got, want = seen.get(ip, {}).get(f, 0), truth.get(ip, {}).get(f, 0)
        cells += (f"{got} =" if got == want else f"{got} (truth {want})").rjust(20)
        bad += got != want
    print("   " + ip.ljust(14) + cells)
print("\n   " + ("Both caught, and every token accounted for." if not bad else f"{bad} thing(s) went wrong."))
sys.exit(1 if bad else 0)
PY
