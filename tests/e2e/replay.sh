#!/bin/bash
# weir replay, from outside: formats, bad input, options, pipes, following a file that grows, is cut or rotated.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
# Neither root nor a server is needed here.
[ -x "$WEIR" ] || { fail replay "$WEIR is not built (make)"; suite_end; }
command -v "$PYTHON" >/dev/null || { skip replay "$PYTHON is not installed"; suite_end; }
DATA=${WEIR_DATA:-$ROOT/../shared/data}
FLOOD=$WORK/flood.jsonl
CSV=$WORK/flood.csv

# Calm traffic of eight clients, then one address with twenty times all of it. JSON lines and CSV hold the same.
"$PYTHON" - "$FLOOD" "$CSV" <<'PY'
import json, random, sys
R = random.Random(4)
rows = []
for t in range(180):
    for _ in range(8):
        c = R.randrange(8)
        rows.append((1767225600 + t + round(R.random(), 4), f"10.0.0.{c}", f"user-{c}", R.randrange(50, 900), R.randrange(20, 300)))
    if 100 <= t < 150:
        rows += [(1767225600 + t + i / 160, "203.0.113.9", "user-evil", 30, 10) for i in range(160)]
rows.sort()
with open(sys.argv[1], "w") as j, open(sys.argv[2], "w") as c:
    c.write("timestamp,client_ip,user_id,request_tokens,response_tokens\n")
    for t, ip, u, p, q in rows:
        j.write(json.dumps({"timestamp": t, "client_ip": ip, "user": u, "prompt_tokens": p, "completion_tokens": q, "status": 200}) + "\n")
        c.write(f"{t},{ip},{u},{p},{q}\n")
PY

replay() { "$WEIR" replay "$@" 2>"$WORK/err"; }

# has_flood FILE: one flood by the right address, detected within ten seconds.
has_flood() {
	"$PYTHON" - "$1" <<'PY'
import json, sys
e = [json.loads(l) for l in open(sys.argv[1])]
o = [x for x in e if x["event"] == "open"]
assert len(o) == 1 and o[0]["class"] == "flood" and o[0]["scope"] == {"kind": "client_ip", "value": "203.0.113.9"}, o
assert 0 <= o[0]["detected"] - 1767225700 <= 10, o
PY
}

check() { # check NAME COMMAND...: the command's own words where it fails
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then ok "$name"; else fail "$name" "$said $(head -c 400 "$WORK/err" 2>/dev/null)"; fi
}

formats() {
	replay --output json "$FLOOD" >"$WORK/a" && has_flood "$WORK/a" &&
		replay --output json --format jsonl - <"$FLOOD" >"$WORK/b" && cmp "$WORK/a" "$WORK/b" &&
		{ replay --output json - < <(cat "$FLOOD") >"$WORK/b"; } && cmp "$WORK/a" "$WORK/b" &&
		replay --output json "$CSV" >"$WORK/c" && has_flood "$WORK/c"
}
check "formats and pipes agree" formats

# What was announced is told one step less severe, by name; the same at a wrong time is not.
calendar() {
	replay --output json "$FLOOD" >"$WORK/a" && ! grep -v '"expected_by":null' "$WORK/a" || return 1
	printf '{"name":"load test","start":"2025-12-29T01:00:00","end":"2025-12-29T01:10:00","repeat":"daily","zone":"Europe/Berlin","scope":{"kind":"client_ip","value":"203.0.113.9"}}\n' >"$WORK/cal"
	[ -e /usr/share/zoneinfo/Europe/Berlin ] || sed -i 's/T01/T00/g; s/Europe.Berlin/UTC/' "$WORK/cal"
	replay --output json --calendar "$WORK/cal" "$FLOOD" >"$WORK/b" || return 1
	[ "$(wc -l <"$WORK/a")" -eq "$(wc -l <"$WORK/b")" ] && grep -q '"severity":"info".*"expected_by":"load test"' "$WORK/b" && ! grep -q '"severity":"warning"' "$WORK/b" || return 1
	sed -i 's/daily/none/' "$WORK/cal"
	replay --output json --calendar "$WORK/cal" "$FLOOD" | cmp - "$WORK/a" || return 1
	printf '\n{"name":"x","start":5,"end":4}\n' >"$WORK/cal"
	replay --calendar "$WORK/cal" "$FLOOD"
	[ $? -eq 2 ] && [ "$(cat "$WORK/err")" = "weir: error: $WORK/cal:2: end: is before start" ]
}
check "a calendar" calendar

human() { replay "$FLOOD" >"$WORK/a" && grep -q 203.0.113.9 "$WORK/a" && grep -q 'incidents: flood 1' "$WORK/err" && ! grep -q $'\033' "$WORK/a"; }
check "a person can read it" human

prefix() {
	local n
	replay --output json "$FLOOD" >"$WORK/a"
	for n in 1 500 900 1000 3000 5000 9000; do
		head -n $n "$FLOOD" | replay --output json - >"$WORK/b" || return 1
		cmp -n "$(stat -c %s "$WORK/b")" "$WORK/a" "$WORK/b" || return 1
	done
}
check "the past does not change" prefix

static() {
	# 5 bins of 100 s and one of 1000 tokens: mean 250, sd 367.4, so 2.04 sd above
	for i in 0 1 2 3 4; do echo "{\"timestamp\":$((i * 100)),\"prompt_tokens\":60,\"completion_tokens\":40}"; done >"$WORK/s"
	echo '{"timestamp":550,"prompt_tokens":1000}' >>"$WORK/s"
	replay --detector static --bin 100 --sigma 2 --output json "$WORK/s" >"$WORK/a" || return 1
	"$PYTHON" -c '
import json, sys
e, = [json.loads(l) for l in open(sys.argv[1])]
assert e["event"] == "open" and e["start"] == 500 and e["evidence"][0]["feature"] == "tokens_total" and e["evidence"][0]["observed"] == 1000, e' "$WORK/a" || return 1
	replay --detector static --bin 100 --sigma 2 "$WORK/s" | grep -q '00:08:20.*1000 tokens' || return 1
	replay --detector static --bin 100 --sigma 2.1 --output json "$WORK/s" >"$WORK/a" && [ ! -s "$WORK/a" ]
}
check "the static method" static

bad_lines() {
	printf '{"timestamp":1}\n{"timestamp":\nrubbish\n{"timestamp":2,"prompt_tokens":-4}\n{"timestamp":3' | replay --output json - >"$WORK/a" || return 1
	[ ! -s "$WORK/a" ] && grep -q '^weir: warning: stdin:2: ' "$WORK/err" && grep -q 'stdin:3: ' "$WORK/err" && grep -q 'stdin:4: prompt_tokens is negative' "$WORK/err" &&
		grep -q 'stdin:5: ' "$WORK/err" && grep -q '5 lines, 3 bad, 1 bad values' "$WORK/err" && ! grep -q rubbish "$WORK/err"
}
check "bad lines are named and skipped" bad_lines

empty() { replay --output json /dev/null >"$WORK/a" && [ ! -s "$WORK/a" ]; }
check "an empty file is no error" empty

usage() {
	local args
	for args in "--format xml $FLOOD" "--bin x $FLOOD" "--bin -1 $FLOOD" "--sigma nan $FLOOD" "--nonsense $FLOOD" "--state $FLOOD $FLOOD" "--detector static --state $WORK/s $FLOOD" "--calendar $WORK/not-there $FLOOD" "--calendar $FLOOD $FLOOD" "--detector static --calendar /dev/null $FLOOD" "--sensitivity 2 $FLOOD" "--alarms-per-week 0 $FLOOD" "--detector static --sensitivity 1 $FLOOD" "" "$FLOOD $FLOOD" \
		"--output" "--detector static --follow $FLOOD" "$WORK/not-there" "$WORK"; do
		# shellcheck disable=SC2086
		replay $args >"$WORK/a"
		[ $? -eq 2 ] && [ "$(wc -l <"$WORK/err")" -eq 1 ] && [ ! -s "$WORK/a" ] || { echo "replay $args"; return 1; }
	done
	"$WEIR" replay --help | grep -q -- --lateness
}
check "bad options and files: one line, exit 2" usage

full_disk() { [ -w /dev/full ] || return 0; replay --output json "$FLOOD" >/dev/full; [ $? -eq 1 ]; }
check "an event that cannot be written is an error" full_disk

# events N FILE: wait until it holds so many open events
events() {
	local i
	for ((i = 0; i < 150; i++)); do
		[ "$(grep -c '"event":"open"' "$2")" -ge "$1" ] && return 0
		sleep 0.1
	done
	echo "no $1 open events in $2: $(cat "$2")"
	return 1
}

following() {
	local f=$WORK/grow.jsonl out=$WORK/follow.out pid lines half
	lines=$(wc -l <"$FLOOD") half=$((lines / 3))
	head -n $half "$FLOOD" >"$f"
	printf '{"timestamp":17672' >>"$f" # half a line, whose rest never comes: the file is rotated away
	"$WEIR" replay --follow --output json "$f" >"$out" 2>"$WORK/err" &
	pid=$!
	PIDS+=("$pid")
	sleep 0.5
	mv "$f" "$f.1"
	sed -n "$((half + 1)),\$p" "$FLOOD" >"$f.new"
	mv "$f.new" "$f"
	events 1 "$out" || return 1
	# cut to nothing and written anew: half an hour later the same again
	sed 's/"timestamp": 17672/"timestamp": 17673/' "$FLOOD" | sed 's/203\.0\.113\.9/203.0.113.77/' >"$WORK/second"
	sleep 0.5
	: >"$f"
	sleep 0.5
	cat "$WORK/second" >>"$f"
	for ((i = 0; i < 150; i++)); do grep -q 203.0.113.77 "$out" && break; sleep 0.1; done
	grep -q 203.0.113.77 "$out" || { echo "nothing after the cut"; return 1; }
	end_pid "$pid" INT
	grep -q '1 bad' "$WORK/err" || { echo "the half line was not counted"; return 1; }
}
check "following: growth, rotation, truncation" following

fifo() {
	local out=$WORK/fifo.out pid i
	mkfifo "$WORK/fifo"
	"$WEIR" replay --follow --output json "$WORK/fifo" >"$out" 2>"$WORK/err" &
	pid=$!
	PIDS+=("$pid")
	# two writers, one after the other
	head -n 1500 "$FLOOD" >"$WORK/fifo"
	sed -n '1501,$p' "$FLOOD" >"$WORK/fifo"
	events 1 "$out" || return 1
	end_pid "$pid" TERM
	for ((i = 0; i < 50; i++)); do grep -q 'lines' "$WORK/err" && break; sleep 0.1; done
	grep -q " $(wc -l <"$FLOOD") lines, 0 bad" "$WORK/err"
}
check "following a FIFO" fifo

if [ -r "$DATA/traces/azure/azure_llm_2023_code.csv" ]; then
	azure() { replay --output json "$DATA/traces/azure/azure_llm_2023_code.csv" >"$WORK/a" && grep -q '8820 lines, 0 bad, 0 bad values; 8819 requests, 18305870 tokens' "$WORK/err"; }
	check "a real trace" azure
else
	skip "a real trace" "no traces in $DATA (WEIR_DATA)"
fi

suite_end
