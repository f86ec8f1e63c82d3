#!/usr/bin/env bash
# Chaos: a model server that is made slow, and then made to fail, while weir watches it; what weir found, and after how long. About seven
# minutes, of which most are calm: what is usual must be known first. weir wants half an hour of that before it says that a model is slow,
# so the calm minutes that were metered are replayed as the hours before (weir replay --state), and the agent goes on from there.
# Exit 0 only if both faults were found, by their names, and nothing was raised in the calm before.
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${WEIR_BUILD:-$ROOT/build}
PYTHON=${PYTHON:-python3}
CALM=${WEIR_CHAOS_CALM_S:-120} # seconds that are metered, and then taken for the hours before
FAULT=${WEIR_CHAOS_FAULT_S:-75} # seconds that each fault lasts
MODEL=alpha
WORK=$(mktemp -d "${TMPDIR:-/tmp}/weir-chaos.XXXXXX")
PIDS=()

cleanup() {
	local p
	for p in "${PIDS[@]}"; do kill "$p" 2>/dev/null; done
	wait 2>/dev/null
	rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
die() { echo "chaos: $1" >&2; exit 1; }
say() { printf '\n%s\n' "$1"; }

[ "$(id -u)" -eq 0 ] || die "attaching needs root: sudo make chaos"
for tool in "$BUILD/weir" "$BUILD/weir-modelserver"; do [ -x "$tool" ] || die "$tool is not built: make"; done
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

agent() { # agent NAME OPTION...: in the background; AGENT is its pid
	local name=$1
	shift
	"$BUILD/weir" run --port "$PORT" --output json --socket "$WORK/sock" "$@" >"$WORK/$name.jsonl" 2>"$WORK/$name.log" &
	AGENT=$!
	PIDS+=($AGENT)
	wait_text $AGENT "$WORK/$name.log" 'weir: ready' || die "weir did not attach: $(tail -3 "$WORK/$name.log")"
}

stop() { # stop PID NAME
	kill -INT "$1"
	wait "$1" || die "$2 ended with status $?: $(tail -3 "$WORK/$2.log")"
}

ask() { # ask QUERY: of the server, for its model
	curl -sf -X POST "http://127.0.0.1:$PORT/chaos?model=$MODEL&$1" >/dev/null || die "the server takes no chaos"
}

say "1. A model server starts, and eight clients that talk to it"
"$BUILD/weir-modelserver" --port 0 --chaos --model alpha --model beta --tokens-per-s 400 --first-token-ms 20 2>"$WORK/server.log" &
SERVER=$!
PIDS+=($SERVER)
wait_text $SERVER "$WORK/server.log" ready || die "the model server did not start: $(cat "$WORK/server.log")"
PORT=$(sed -n 's/.*ready on .*:\([0-9]*\),.*/\1/p' "$WORK/server.log")
"$PYTHON" - $((CALM + 2 * FAULT + 400)) >"$WORK/plan.json" <<'PY'
import json, sys
mix = [{"stream": True, "usage": True, "tokens": 24, "natural": True, "model": "alpha", "repeat": 2}, {"stream": True, "usage": True, "tokens": 40, "model": "alpha"},
       {"stream": True, "usage": True, "tokens": 20, "model": "beta"}]
json.dump({"clients": [{"src": f"127.0.0.{i}", "parallel": 4, "rate": 1, "duration": int(sys.argv[1]), "requests": mix} for i in range(31, 39)]}, sys.stdout)
PY
"$PYTHON" "$ROOT/tests/e2e/driver.py" "127.0.0.1:$PORT" "$WORK/plan.json" >"$WORK/told.json" 2>"$WORK/driver.log" &
PIDS+=($!)

say "2. weir meters them for $CALM s; that is replayed as the hours before"
mkdir -m 700 "$WORK/state"
agent calm --records-out "$WORK/records.jsonl" --key-file "$WORK/state/key"
sleep "$CALM"
stop $AGENT calm
"$PYTHON" - "$WORK/records.jsonl" >"$WORK/past.jsonl" <<'PY' || die "nothing was metered"
import json, sys
records = [json.loads(line) for line in open(sys.argv[1])]
first, last = (f(r["timestamp"] for r in records) for f in (min, max))
# The first seconds are those of clients that begin together.
records = [r for r in records if r["timestamp"] >= first + 5]
span = last - first - 5
for k in range(int(5400 / span), 0, -1):
    for r in records:
        print(json.dumps(r | {"timestamp": r["timestamp"] - k * span}))
PY
"$BUILD/weir" replay --state "$WORK/state" --output json "$WORK/past.jsonl" >"$WORK/past.events" 2>"$WORK/replay.log" || die "weir replay: $(tail -3 "$WORK/replay.log")"
agent chaos --state "$WORK/state"
sleep 60

say "3. $MODEL answers slowly: first tokens 300 ms later, the others twice as slow, for $FAULT s"
SLOW_AT=$(date +%s.%N)
ask 'first_token_ms=300&slow=2'
sleep "$FAULT"
ask 'first_token_ms=20&slow=1'
sleep 150

say "4. 30 of 100 answers of $MODEL fail, for $FAULT s"
FAIL_AT=$(date +%s.%N)
ask 'error_rate=0.3'
sleep "$FAULT"
ask 'error_rate=0'
sleep 5
stop $AGENT chaos

say "5. What weir found"
"$PYTHON" - "$WORK/chaos.jsonl" "$MODEL" "$SLOW_AT" "$FAIL_AT" <<'PY'
import json, sys
path, model, slow_at, fail_at = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
opened = [e for e in map(json.loads, open(path)) if e["event"] == "open"]
bad = 0
for cls, at in (("latency_regression", slow_at), ("error_burst", fail_at)):
    mine = [e for e in opened if e["class"] == cls and e["detected"] >= at]
    if mine:
        e = mine[0]
        print(f"   {cls}: {e['detected'] - at:.1f} s after it began, {e['severity']}, of {e['scope']['kind']} {e['scope']['value']}".rstrip() + f"\n      {e['summary']}")
        bad += e["scope"]["kind"] == "model" and e["scope"]["value"] != model
    else:
        print(f"   {cls}: MISSED")
        bad += 1
for e in opened:
    if e["detected"] < slow_at or e["class"] not in ("latency_regression", "error_burst"):
        print(f"   besides: {e['class']} {e['severity']}: {e['summary']}")
        bad += e["detected"] < slow_at and e["severity"] != "info"
sys.exit(bad > 0)
PY
