#!/bin/bash
# weir feedback and weir anomalies: what they show, what they refuse, and that a running agent hears of a label.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
[ -x "$WEIR" ] || { fail feedback "$WEIR is not built (make)"; suite_end; }
command -v "$PYTHON" >/dev/null || { skip feedback "$PYTHON is not installed"; suite_end; }
S=$WORK/state

# Two floods by two addresses, an hour apart; the first is over at the end.
"$PYTHON" - "$WORK/two.jsonl" <<'PY'
import json, random, sys
R = random.Random(7)
rows = []
for t in range(4200):
    for _ in range(4):
        c = R.randrange(8)
        rows.append((1767225600 + t + round(R.random(), 4), f"10.0.0.{c}", f"user-{c}", R.randrange(50, 900), R.randrange(20, 300)))
    if 600 <= t < 660:
        rows += [(1767225600 + t + i / 160, "203.0.113.9", "eve", 30, 10) for i in range(160)]
    if 4160 <= t:
        rows += [(1767225600 + t + i / 160, "2001:db8::77", "mal\x1b[31mlory", 30, 10) for i in range(160)]
rows.sort()
with open(sys.argv[1], "w") as f:
    for t, ip, u, p, q in rows:
        f.write(json.dumps({"timestamp": t, "client_ip": ip, "user": u, "prompt_tokens": p, "completion_tokens": q, "status": 200}) + "\n")
PY

check() { # check NAME COMMAND...
	local name=$1 said
	shift
	case_wanted "$name" || return 0
	if said=$("$@" 2>&1); then ok "$name"; else fail "$name" "$said $(head -c 400 "$WORK/err" 2>/dev/null)"; fi
}

anomalies() { "$WEIR" anomalies --state "$S" "$@" 2>"$WORK/err"; }
feedback() { "$WEIR" feedback --state "$S" "$@" 2>"$WORK/err"; }
ids() { anomalies --json "$@" | "$PYTHON" -c 'import json,sys
for l in sys.stdin: print(json.loads(l)["id"])'; }
count() { ids "$@" | wc -l; }

# refused STATUS TEXT COMMAND...: this status, nothing on standard output, one line that holds the text.
refused() {
	local status=$1 text=$2 out r
	shift 2
	out=$("$@")
	r=$?
	[ $r -eq "$status" ] || { echo "$*: status $r instead of $status"; return 1; }
	[ -z "$out" ] || { echo "$*: wrote $out"; return 1; }
	[ "$(wc -l <"$WORK/err")" -eq 1 ] || { echo "$*: not one line"; return 1; }
	grep -q -- "$text" "$WORK/err" || { echo "$*: does not say '$text'"; return 1; }
}

"$WEIR" replay --state "$S" --output json "$WORK/two.jsonl" >"$WORK/events" 2>"$WORK/err" || { fail feedback "replay: $(tail -1 "$WORK/err")"; suite_end; }
FIRST=$(ids --scope 203.0.113.9 | head -1)
SECOND=$(ids --scope 'client_ip:2001:db8:*' | head -1)
[ -n "$FIRST" ] && [ -n "$SECOND" ] || { fail feedback "the floods are not stored: $(cat "$WORK/events")"; suite_end; }

shows() {
	anomalies >"$WORK/human" || return 1
	grep -q 'client 203.0.113.9, over after' "$WORK/human" && grep -q 'client 2001:db8::77, open' "$WORK/human" && grep -q "id $FIRST" "$WORK/human" || { cat "$WORK/human"; return 1; }
	! grep -q $'\033' "$WORK/human" || { echo "an escape sequence came through"; return 1; }
	anomalies --json >"$WORK/json" || return 1
	"$PYTHON" - "$WORK/json" "$WORK/events" <<'PY'
import json, sys
last = {}
for e in map(json.loads, open(sys.argv[2])): last[e["id"]] = e
seen = {}
for line in open(sys.argv[1]):
    o = json.loads(line)
    e = last[o["id"]]
    assert all(o[k] == e[k] for k in e), "an event is not as it was told"
    assert o["state"] == ("closed" if e["event"] == "close" else "open")
    assert (o["closed"] is None) == (o["state"] == "open")
    assert o["opens"] >= 1 and o["label"] is None and o["opened"] <= o["updated"]
    seen[o["id"]] = o
assert seen.keys() == last.keys(), (seen.keys(), last.keys())
PY
}
check "history is what was told" shows

filters() {
	local all open
	all=$(count) open=$(count --open)
	[ "$open" -ge 1 ] && [ "$open" -lt "$all" ] || { echo "$open of $all open"; return 1; }
	[ "$(count --class flood)" -ge 2 ] && [ "$(count --class ddos)" -eq 0 ] || return 1
	[ "$(count --scope client_ip)" -ge 2 ] && [ "$(count --scope 'client_ip:203.0.113.*')" -ge 1 ] && [ "$(count --scope '*')" -eq "$all" ] || return 1
	[ "$(count --scope nobody)" -eq 0 ] && [ "$(count --scope '203.0.113.?')" -eq 0 ] || { echo "? is no wildcard"; return 1; }
	[ "$(count --severity info)" -eq "$all" ] && [ "$(count --severity critical)" -le "$all" ] || return 1
	[ "$(count --since 2026-01-01T00:30:00Z)" -lt "$all" ] && [ "$(count --since 1767225600)" -eq "$all" ] && [ "$(count --since 1h)" -eq "$open" ] || { echo since; return 1; }
	[ -z "$(anomalies --class ddos --json)" ] && anomalies --class ddos >/dev/null && grep -q 'no incidents of that kind' "$WORK/err"
}
check "filters" filters

usage() {
	refused 2 'is not CLASS' anomalies --class nonsense && refused 2 'is not info|warning|critical' anomalies --severity bad &&
	refused 2 'is not TIME' anomalies --since yesterday && refused 2 'unexpected argument' anomalies extra &&
	refused 2 'of which incident' feedback --true-positive && refused 2 'say --false-positive or' feedback "$FIRST" &&
	refused 2 'not both' feedback "$FIRST" --false-positive --true-positive && refused 2 'one incident at a time' feedback a b --true-positive &&
	refused 2 'not UTF-8' feedback "$FIRST" --true-positive --note $'\xff' &&
	refused 2 'at most 1023' feedback "$FIRST" --true-positive --note "$(printf 'x%.0s' {1..1100})" &&
	refused 2 'No such file' "$WEIR" feedback "$FIRST" --true-positive --state "$WORK/nowhere" 2>"$WORK/err" &&
	{ mkdir -p -m 700 "$WORK/empty" && refused 2 'nothing is stored there' "$WEIR" feedback "$FIRST" --true-positive --state "$WORK/empty"; } 2>"$WORK/err" &&
	{ refused 2 'nothing is stored there' "$WEIR" anomalies --state "$WORK/empty"; } 2>"$WORK/err"
}
check "what is refused" usage

nearest() {
	refused 2 "no incident '${FIRST%?}x' in $S; nearest: $FIRST (flood, client 203.0.113.9)" feedback "${FIRST%?}x" --false-positive &&
	refused 2 'no incident .*\\x1b' feedback $'\033[31mred' --false-positive
}
check "an id that nobody has" nearest

labels() {
	feedback "$FIRST" --false-positive --note 'our load test; "quoted", ümlaut' >"$WORK/out" || return 1
	grep -q "flood $FIRST (client 203.0.113.9) is a false positive now; no agent is running there" "$WORK/out" || { cat "$WORK/out"; return 1; }
	refused 2 "already labelled a false positive" feedback "$FIRST" --false-positive --note other || return 1
	anomalies --json --scope 203.0.113.9 >"$WORK/json" || return 1
	"$PYTHON" -c 'import json,sys
l = json.loads(open(sys.argv[1]).readline())["label"]
assert l["verdict"] == "false_positive" and l["note"] == "our load test; \"quoted\", ümlaut" and l["suppressed"] == 0 and l["by"], l' "$WORK/json" || return 1
	feedback "$FIRST" --true-positive >"$WORK/out" && grep -q 'is a true positive now, no longer a false positive' "$WORK/out" || return 1
	anomalies | grep -q 'true positive, said '
}
check "labels" labels

many_at_once() {
	local i pids=() wins=0
	for ((i = 0; i < 16; i++)); do
		"$WEIR" feedback --state "$S" "$SECOND" --true-positive >/dev/null 2>>"$WORK/many.err" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" && wins=$((wins + 1)); done
	! grep -v 'already labelled' "$WORK/many.err" && [ "$wins" -eq 1 ]
}
check "many at once" many_at_once

rights() {
	[ "$(id -u)" -eq 0 ] || { echo "needs root"; return 1; }
	local nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	cp "$WEIR" "$WORK/weir" && chmod 755 "$WORK/weir"
	! "${nobody[@]}" "$WORK/weir" anomalies --state "$S" 2>"$WORK/err" && grep -q 'Permission denied' "$WORK/err" || return 1
	! "${nobody[@]}" "$WORK/weir" feedback "$FIRST" --false-positive --state "$S" 2>"$WORK/err" && grep -q 'Permission denied' "$WORK/err"
}
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then check "not for everybody" rights; else skip "not for everybody" "needs root and setpriv"; fi

slow_reader() {
	# A reader that stops in the middle holds up nobody.
	local r
	{ anomalies --json; } | { sleep 1; head -1 >/dev/null; }
	r=("${PIPESTATUS[@]}")
	[ "${r[0]}" -eq 0 ] || [ "${r[0]}" -ge 128 ]
}
check "a reader that goes away" slow_reader

hears() {
	"$WEIR" feedback "$FIRST" --false-positive --state "$S" >"$WORK/out" || return 1
	grep -q 'the running agent hears of it within a second' "$WORK/out" || { cat "$WORK/out"; return 1; }
	wait_for 4 grep -q "feedback: flood $FIRST is a false positive" "$WEIR_LOG" || { tail -3 "$WEIR_LOG"; return 1; }
	"$WEIR" feedback "$FIRST" --true-positive --state "$S" >/dev/null && wait_for 4 grep -q "feedback: flood $FIRST is a true positive" "$WEIR_LOG" || return 1
	[ "$(grep -c 'feedback:' "$WEIR_LOG")" -eq 2 ] && "$WEIR" anomalies --state "$S" >/dev/null
}
if [ "$(id -u)" -ne 0 ] || [ ! -x "$MODELSERVER" ]; then
	skip "a running agent hears of it" "needs root, and the model server"
elif ! modelserver_start || ! weir_start --port "$PORT" --state "$S"; then
	fail "a running agent hears of it" "$(tail -2 "$WORK/modelserver.log" "$WEIR_LOG")"
else
	check "a running agent hears of it" hears
	weir_stop >"$WORK/stop" || fail "the agent ends" "$(cat "$WORK/stop")"
fi
suite_end
