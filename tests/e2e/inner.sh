#!/usr/bin/env bash
# Double hops: a gateway and the engine behind it on one host, both watched. Each request is billed once, at the outermost listener that is
# watched; what the inner hop tells is where the time goes.
. "$(dirname "$0")/lib.sh"
suite_needs ss nginx curl jq "$PYTHON"

PLAN='{"model": "weir-tiny", "clients": [{"src": "127.0.0.11", "count": 8, "requests": [
  {"tokens": 9, "repeat": 3}, {"stream": true, "usage": true, "tokens": 40, "repeat": 3}, {"stream": true, "tokens": 7}, {"api": "embedding"}]},
  {"src": "127.0.0.31", "keepalive": false, "count": 2, "requests": [{"tokens": 12, "repeat": 6}]}]}'
NPLAN=76 # requests of it


# billed NAME OUTER INNERS PER: driven already; records, accounts and the summary know the outer hop alone, and PER inner ones for each request.
billed() {
	local name=$1 outer=$2 inners=$3 per=$4 out
	settle
	"$WEIR" clients --by client --json --socket "$WORK/sock" >"$WORK/by.jsonl" || why="$why; clients --by"
	out=$("$PYTHON" "$E2E/compare.py" --fields requests,status_2xx,prompt_tokens,completion_tokens,cached_tokens,aborted "$TOLD" "$WORK/by.jsonl" 2>&1) || why="$why; accounts: $out"
	weir_clients >"$WORK/clients.jsonl"
	out=$("$PYTHON" "$E2E/compare.py" --port "$outer" "$TOLD" "$WORK/clients.jsonl" 2>&1) || why="$why; counters: $out"
	stat_of inner >"$WORK/inner" 2>&1
	out=$("$PYTHON" - "$WORK/inner" "$NPLAN" "$per" "$outer" $inners <<'PY' 2>&1
import ast, sys
i = ast.literal_eval(open(sys.argv[1]).read())
n, per, outer, ports = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), [int(p) for p in sys.argv[5:]]
links = {(l["outer_port"], l["port"]): l for l in i["links"]}
assert i["requests"] == n * per, i
assert i["lost"] == 0, i
assert set(links) == {(outer, p) for p in ports}, links
# Which request waited for which hop is told by their order and size; on a busy machine the order of a few is lost, and those are counted.
matched, unmatched = (sum(f(l) for l in links.values()) for f in (lambda l: l["gateway_queue_ms"]["count"], lambda l: l["unmatched"]))
assert matched >= 0.9 * n and matched + unmatched == n * per, links
for l in links.values():
    assert l["engine_duration_ms"]["count"] == n, l
    assert l["gateway_queue_ms"]["p99"] >= 0
PY
	) || why="$why; inner: $(tail -1 <<<"$out")"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	out=$("$PYTHON" "$E2E/compare.py" --records "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	grep -q "inner hops: $((NPLAN * per)) requests" "$WEIR_LOG" || why="$why; the log does not tell of them"
	out=$(jq -r '.total | "\(.requests) requests, \(.prompt_tokens) prompt + \(.completion_tokens) completion tokens"' "$TOLD")
	grep -q "weir: $out" "$WEIR_LOG" || why="$why; want $out, summary $(grep ' requests, .* clients' "$WEIR_LOG")"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

modelserver_start || { fail "$SUITE" "no server"; suite_end; }
BACKEND=$PORT
gateway_start "$BACKEND" || { fail "$SUITE" "nginx did not start: $(tail -1 "$WORK/nginx.log")"; suite_end; }

if case_wanted nginx; then
	why=
	if weir_start --port "$GATEWAY" --port "$BACKEND"; then
		drive "127.0.0.1:$GATEWAY" <<<"$PLAN" || why=$(drive_errors)
		billed nginx "$GATEWAY" "$BACKEND" 1
	else
		fail nginx "weir did not attach: $(tail -2 "$WEIR_LOG")"
	fi
fi

# Where the engine's port alone is watched, it is the outermost one.
if case_wanted inner-alone; then
	why=
	if weir_start --port "$BACKEND"; then
		drive "127.0.0.1:$GATEWAY" <<<"$PLAN" || why=$(drive_errors)
		settle
		out=$(jq -s --argjson n $NPLAN --slurpfile told "$TOLD" 'length == $n and (map(.client_ip) | unique) == ["127.0.0.1"]
			and (map(.completion_tokens // 0) | add) > 0' "$RECORDS" 2>&1)
		[ "$(stat_of inner.requests)" = 0 ] || why="$why; inner hops of nobody: $(stat_of inner)"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		out=$(jq -s --argjson n $NPLAN 'length == $n and (map(.client_ip) | unique) == ["127.0.0.1"]' "$RECORDS" 2>&1)
		[ "$out" = true ] || why="$why; records: $(jq -c '[.client_ip, .server]' "$RECORDS" | sort | uniq -c | tr '\n' ' ')"
	else
		why="weir did not attach: $(tail -2 "$WEIR_LOG")"
	fi
	if [ -n "$why" ]; then fail inner-alone "${why#; }"; else ok inner-alone; fi
fi

# A client of this host that calls the engine itself is no inner hop, also while the gateway is watched.
if case_wanted beside; then
	why=
	if weir_start --port "$GATEWAY" --port "$BACKEND" && drive "127.0.0.1:$BACKEND" <<<"$PLAN"; then
		[ "$(stat_of inner.requests)" = 0 ] || why="inner hops of nobody: $(stat_of inner)"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		out=$("$PYTHON" "$E2E/compare.py" --records "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	else
		why="weir or the driver failed: $(tail -2 "$WEIR_LOG") $(drive_errors)"
	fi
	if [ -n "$why" ]; then fail beside "${why#; }"; else ok beside; fi
fi
end_pid "$GATEWAY_PID"

# Two gateways in a row, and engines for prefill and decode behind a router.
if case_wanted router; then
	why=
	PREFILL=$BACKEND
	port_new
	DECODE=$PORT
	"$MODELSERVER" --port "$DECODE" 2>"$WORK/decode.log" &
	PIDS+=($!)
	started $! "$WORK/decode.log" 10 ready || why="no second engine"
	port_new
	GATEWAY=$PORT
	"$PYTHON" "$E2E/router.py" "$GATEWAY" "$PREFILL" "$DECODE" 2>"$WORK/router.log" &
	GATEWAY_PID=$!
	PIDS+=("$GATEWAY_PID")
	wait_for 10 curl -sf -o /dev/null "http://127.0.0.1:$GATEWAY/health" || why="$why; no router: $(tail -1 "$WORK/router.log")"
	if weir_start --port "$GATEWAY" --port "$PREFILL" --port "$DECODE"; then
		drive "127.0.0.1:$GATEWAY" <<<"$PLAN" || why=$(drive_errors)
		billed router "$GATEWAY" "$PREFILL $DECODE" 2
	else
		fail router "weir did not attach: $(tail -2 "$WEIR_LOG")"
	fi
	end_pid "$GATEWAY_PID"
fi
suite_end
