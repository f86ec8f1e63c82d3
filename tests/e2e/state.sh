#!/bin/bash
# What outlives the agent: --state with kill -9, full disks, damage, others in the folder, privileges dropped; and weir replay --state.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
suite_needs curl ss mount
WRITER=$BUILD/e2e/state_writer
[ -x "$WRITER" ] || { fail state "$WRITER is not built (make test builds it)"; suite_end; }
LOADGEN=$BUILD/weir-loadgen
KILLS=${WEIR_STATE_KILLS:-20} # of the agent; the writer's are four times as many
MOUNTS=()
LOAD=

state_cleanup() {
	local m
	[ -n "$WEIR_PID" ] && end_pid "$WEIR_PID"
	WEIR_PID=
	for m in "${MOUNTS[@]}"; do umount -l "$m" 2>/dev/null; done
	suite_cleanup
}
trap state_cleanup EXIT

BODY='{"model":"weir-tiny","messages":[{"role":"user","content":"the red fox told no one"}],"max_tokens":4}'
SECRET=sk-this-is-a-secret-0123456789
ask() { # ask N
	local i
	for ((i = 0; i < ${1:-1}; i++)); do
		curl -s -o /dev/null --max-time 10 -H "authorization: Bearer $SECRET" -H 'content-type: application/json' -d "$BODY" \
			"http://127.0.0.1:$PORT/v1/chat/completions" || return 1
	done
}

sql() { # sql DIR QUERY: as anybody would read it
	"$PYTHON" - "$1/weir.db" "$2" <<'PY'
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
for row in db.execute(sys.argv[2]): print(*row, sep="|")
PY
}

saves_reach() { [ "$(stat_of state.saves)" -ge "$1" ]; }
kept_is() { [ "$(stat_of state.kept)" = "$1" ]; }
said() { grep -c -- "$1" "$WEIR_LOG"; }

check() { # check NAME COMMAND...
	local name=$1 out
	shift
	case_wanted "$name" || return 0
	if out=$("$@" 2>&1); then ok "$name"; else fail "$name" "$out"; fi
	[ -n "$WEIR_PID" ] && end_pid "$WEIR_PID" && WEIR_PID=
	return 0
}

# Like check, in this shell: for cases that start agents.
case_state() { # case_state NAME FUNCTION
	local name=$1
	case_wanted "$name" || return 0
	if "$2" >"$WORK/out" 2>&1; then ok "$name"; else fail "$name" "$(tail -5 "$WORK/out") $(tail -3 "$WEIR_LOG" 2>/dev/null)"; fi
	if [ -n "$WEIR_PID" ]; then end_pid "$WEIR_PID"; WEIR_PID=; fi
	if [ -n "$LOAD" ]; then end_pid "$LOAD"; LOAD=; fi
}

tmpfs_make() { # tmpfs_make DIR SIZE
	mkdir -p "$1" && mount -t tmpfs -o "size=$2,mode=0700" none "$1" && MOUNTS+=("$1")
}

# ---- kill -9 ------------------------------------------------------------------------------------------
writer_kills() { "$PYTHON" "$E2E/state_kill.py" "$WRITER" "$WORK/writer" $((4 * KILLS)) 1 | tee "$WORK/writer.said" >&2; return "${PIPESTATUS[0]}"; }

# The agent itself, with requests coming all the while. What was recorded ten seconds before its end stands in the hourly sums.
agent_kills() {
	local i life s=$WORK/kills base=0 sum due killed log=$WORK/kills.events
	: >"$log"
	"$LOADGEN" --duration 600 --rate 40 --connections 4 --requests 1000000 --path /v1/chat/completions --body "$BODY" "127.0.0.1:$PORT" >"$WORK/load.out" 2>&1 &
	LOAD=$!
	PIDS+=("$LOAD")
	for ((i = 1; i <= KILLS; i++)); do
		if ((i % 10 == 5)); then life=13.$((RANDOM % 10)); else life=$((RANDOM % 3)).$((RANDOM % 10)); fi
		weir_start --port "$PORT" --state "$s" || { echo "life $i: did not start"; return 1; }
		grep -q 'warning\|error' "$WEIR_LOG" && { echo "life $i: $(grep 'warning\|error' "$WEIR_LOG" | head -1)"; return 1; }
		sleep "$life"
		killed=$EPOCHREALTIME
		kill -KILL "$WEIR_PID" && wait "$WEIR_PID" 2>/dev/null
		WEIR_PID=
		cat "$WEIR_OUT" >>"$log"
		[ "$(sql "$s" 'PRAGMA integrity_check')" = ok ] || { echo "life $i: $(sql "$s" 'PRAGMA integrity_check')"; return 1; }
		sum=$(sql "$s" "SELECT coalesce(sum(requests), 0) FROM rollups WHERE scope_kind = 'global'")
		due=$("$PYTHON" -c 'import json,sys
n = 0
for line in open(sys.argv[1]):
    try: r = json.loads(line)
    except ValueError: continue # torn by the kill
    n += r.get("weight", 1) * (r["timestamp"] + r.get("duration_ms", 0) / 1000 <= float(sys.argv[2]) - 10)
print(n)' "$RECORDS" "$killed")
		[ "$sum" -ge $((base + due)) ] || { echo "life $i of $life s: $sum requests stored, $((base + due)) were seen 10 s before the end"; return 1; }
		((i % 10 == 5)) && [ "$due" -lt 50 ] && { echo "life $i: only $due requests came; this proves nothing"; return 1; }
		base=$sum
	done
	end_pid "$LOAD"
	LOAD=
	[ ! -e "$s/weir.db.damaged-1" ] || { echo "a file was set aside"; return 1; }
	# Nobody who was told that it is over hears of it again.
	"$PYTHON" - "$log" <<'PY'
import json, sys
over = set()
for line in open(sys.argv[1]):
    try: e = json.loads(line)
    except ValueError: continue
    assert not (e["id"] in over and e["event"] != "open"), f"{e['id']}: {e['event']} after it was over"
    (over.add if e["event"] == "close" else over.discard)(e["id"])
PY
}

# ---- an incident that is open when the end comes ------------------------------------------------------
make_flood() {
	"$PYTHON" - "$1" "$2" <<'PY'
import json, random, sys
R = random.Random(4)
rows = []
for t in range(600):
    for _ in range(8):
        c = R.randrange(8)
        rows.append((1767225600 + t + round(R.random(), 4), f"10.0.0.{c}", R.randrange(50, 900), R.randrange(20, 300)))
    if 200 <= t < 280:
        rows += [(1767225600 + t + i / 160, "203.0.113.9", 30, 10) for i in range(160)]
rows.sort()
a, b = open(sys.argv[1], "w"), open(sys.argv[2], "w")
for t, ip, p, q in rows:
    (a if t < 1767225600 + 240 else b).write(json.dumps({"timestamp": t, "client_ip": ip, "prompt_tokens": p, "completion_tokens": q, "status": 200}) + "\n")
PY
}

open_at_the_end() {
	local s=$WORK/open exported
	make_flood "$WORK/a.jsonl" "$WORK/b.jsonl"
	"$WEIR" replay --state "$s" --output json "$WORK/a.jsonl" >"$WORK/a.events" 2>"$WORK/err" || return 1
	"$WEIR" anomalies --state "$s" --open --json >"$WORK/open.json" || return 1
	[ "$(wc -l <"$WORK/open.json")" -eq 1 ] || { echo "not one open incident: $(cat "$WORK/open.json")"; return 1; }
	exported=$(sql "$s" "SELECT count(*) FROM state WHERE kind = 'incident'")
	"$WEIR" replay --state "$s" --output json "$WORK/b.jsonl" >"$WORK/b.events" 2>>"$WORK/err" || return 1
	# An engine that hands its open incidents out goes on with them: no end at the start, and nobody is told a second time.
	if [ "$exported" -gt 0 ]; then
		! grep -q 'weir was restarted' "$WORK/b.events" && [ "$(cat "$WORK/a.events" "$WORK/b.events" | grep -c '"event":"open"')" -eq 1 ] ||
			{ cut -c1-300 "$WORK/b.events"; return 1; }
	fi
	[ -z "$("$WEIR" anomalies --state "$s" --open --json)" ] || { echo "still open after it was over"; return 1; }
	# Taken up again or closed; never both, never twice.
	"$PYTHON" - "$WORK/a.events" "$WORK/b.events" <<'PY'
import json, sys
open_ids, over = set(), set()
for path in sys.argv[1:]:
    for e in map(json.loads, open(path)):
        if e["event"] == "open":
            assert e["id"] not in open_ids, f"{e['id']} opened twice"
            open_ids.add(e["id"])
        else:
            assert e["id"] in open_ids, f"{e['event']} of {e['id']}, which is not open"
            if e["event"] == "close": open_ids.remove(e["id"]); over.add(e["id"])
assert not open_ids, f"never closed: {open_ids}"
PY
}

same_bytes() {
	local i
	for i in 1 2; do
		"$WEIR" replay --state "$WORK/same$i" --output json "$WORK/a.jsonl" >"$WORK/same$i.a" 2>/dev/null || return 1
		"$WEIR" replay --state "$WORK/same$i" --output json "$WORK/b.jsonl" >"$WORK/same$i.b" 2>/dev/null || return 1
		"$WEIR" anomalies --state "$WORK/same$i" --json >"$WORK/same$i.c" || return 1
	done
	cmp "$WORK/same1.a" "$WORK/same2.a" && cmp "$WORK/same1.b" "$WORK/same2.b" && cmp "$WORK/same1.c" "$WORK/same2.c" || return 1
	# With a state and without, a fresh start says the same.
	"$WEIR" replay --output json "$WORK/a.jsonl" >"$WORK/none" 2>/dev/null && cmp "$WORK/none" "$WORK/same1.a" &&
	! "$WEIR" replay --detector static --state "$WORK/same1" "$WORK/a.jsonl" 2>/dev/null
}

follow_keeps() {
	local s=$WORK/follow pid r=0
	: >"$WORK/grow.jsonl"
	"$WEIR" replay --follow --state "$s" --output json "$WORK/grow.jsonl" >"$WORK/grow.out" 2>"$WORK/grow.err" &
	pid=$!
	PIDS+=("$pid")
	cat "$WORK/a.jsonl" >>"$WORK/grow.jsonl"
	wait_for 15 eval '[ -n "$(sql "$WORK/follow" "SELECT 1 FROM rollups LIMIT 1" 2>/dev/null)" ]' || { echo "nothing stored after 15 s"; r=1; }
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	[ "$(sql "$s" 'PRAGMA integrity_check')" = ok ] && return $r
}

# ---- privileges ---------------------------------------------------------------------------------------
dropped() {
	local s=$WORK/dropped
	weir_start --port "$PORT" --state "$s" || return 1
	ask 5 || return 1
	wait_for 15 saves_reach 1 || { echo "no save within 15 s"; return 1; }
	[ "$(awk '/^Uid/{print $2}' "/proc/$WEIR_PID/status")" != 0 ] || { echo "still root"; return 1; }
	[ "$(stat -c '%u %a' "$s")" = "0 700" ] && [ "$(stat -c '%u %a' "$s/weir.db")" = "0 600" ] && [ "$(stat -c '%u %a' "$s/weir.db-wal")" = "0 600" ] ||
		{ ls -ln "$s"; return 1; }
	ask 5 && wait_for 15 saves_reach 2 || { echo "no second save"; return 1; }
	weir_stop || return 1
	[ "$(sql "$s" "SELECT sum(requests) FROM rollups WHERE scope_kind = 'global'")" = 10 ] || { sql "$s" 'SELECT * FROM rollups'; return 1; }
	[ "$(sql "$s" "SELECT value FROM meta WHERE key = 'clean'")" = 1.0 ] || { echo "not closed in order"; return 1; }
	[ ! -s "$s/weir.db-wal" ] || { echo "the log was not copied back"; return 1; }
	# Neither keys nor prompts, anywhere in it.
	! grep -aqE "$SECRET|red fox" "$s"/weir.db* || { echo "a secret is stored"; return 1; }
	[ "$(sql "$s" "SELECT count(*) FROM rollups WHERE scope_kind = 'api_key'")" -ge 1 ]
}

# ---- where nothing can be kept ------------------------------------------------------------------------
full_disk() {
	local s=$WORK/small
	tmpfs_make "$s" 2m || return 1
	weir_start --port "$PORT" --state "$s" || return 1
	kept_is True || return 1
	dd if=/dev/zero of="$s/ballast" bs=4k >/dev/null 2>&1
	ask 3
	wait_for 30 kept_is False || { echo "a full disk was not noticed"; return 1; }
	sleep 10 # some more tries
	[ "$(said 'cannot save')" -eq 1 ] || { echo "said $(said 'cannot save') times"; return 1; }
	ask 3
	rm "$s/ballast"
	wait_for 30 kept_is True || { echo "room again was not noticed"; return 1; }
	[ "$(said 'saving again')" -eq 1 ] || return 1
	weir_stop || return 1
	[ "$(sql "$s" "SELECT sum(requests) FROM rollups WHERE scope_kind = 'global'")" = 6 ] && [ "$(sql "$s" 'PRAGMA integrity_check')" = ok ]
}

full_from_the_start() {
	local s=$WORK/tiny
	tmpfs_make "$s" 64k || return 1
	dd if=/dev/zero of="$s/ballast" bs=4k >/dev/null 2>&1
	weir_start --port "$PORT" --state "$s" || return 1
	kept_is False && [ "$(said 'going on in memory')" -eq 1 ] && ask 3 && weir_stop || return 1
	! "$WEIR" replay --state "$s" "$WORK/a.jsonl" >/dev/null 2>"$WORK/err" && grep -q 'weir.db' "$WORK/err"
}

read_only() {
	local s=$WORK/ro
	tmpfs_make "$s" 4m && mount -o remount,ro "$s" || return 1
	weir_start --port "$PORT" --state "$s" || return 1
	kept_is False && [ "$(said 'going on in memory')" -eq 1 ] && ask 3 && weir_stop || return 1
	# One that is there can be read, and is not written.
	mount -o remount,rw "$s" && "$WEIR" replay --state "$s" "$WORK/a.jsonl" >/dev/null 2>&1 && mount -o remount,ro "$s" || return 1
	[ "$("$WEIR" anomalies --json --state "$s" | wc -l)" -eq 1 ] || { echo "cannot be read"; return 1; }
	! "$WEIR" feedback "$("$WEIR" anomalies --json --state "$s" | jq -r .id)" --true-positive --state "$s" 2>"$WORK/err" && grep -qi 'read-only' "$WORK/err"
}

two_agents() {
	local s=$WORK/two out
	weir_start --port "$PORT" --state "$s" || return 1
	"$WEIR" run --port "$PORT" --state "$s" --socket "$WORK/sock2" --duration 3 >/dev/null 2>"$WORK/second.log" || { cat "$WORK/second.log"; return 1; }
	[ "$(grep -c 'in use by another weir; going on in memory' "$WORK/second.log")" -eq 1 ] || { cat "$WORK/second.log"; return 1; }
	out=$("$WEIR" replay --state "$s" "$WORK/a.jsonl" 2>&1 >/dev/null)
	[ $? -eq 2 ] && grep -q 'in use by another weir' <<<"$out" || { echo "$out"; return 1; }
	kept_is True && weir_stop && [ "$(sql "$s" 'PRAGMA integrity_check')" = ok ]
}

locked() {
	local s=$WORK/locked pid
	weir_start --port "$PORT" --state "$s" || return 1
	# Somebody holds a transaction for longer than a save can wait, and then goes.
	"$PYTHON" -c 'import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(20)' "$s/weir.db" >"$WORK/held" &
	pid=$!
	PIDS+=("$pid")
	wait_for 5 grep -q held "$WORK/held" || return 1
	ask 4
	sleep 12
	[ "$(stat_of state.saves)" -eq 0 ] || { echo "saved although it was locked"; return 1; }
	ask 1 || return 1 # it answers, and meters on
	end_pid "$pid"
	wait_for 15 saves_reach 1 || { echo "not saved once it was free"; return 1; }
	[ "$(said 'cannot save')" -eq 0 ] && weir_stop && [ "$(sql "$s" "SELECT sum(requests) FROM rollups WHERE scope_kind = 'global'")" = 5 ]
}

damaged() {
	local s=$WORK/damaged sum
	weir_start --port "$PORT" --state "$s" && ask 2 && weir_stop || return 1
	"$PYTHON" - "$s/weir.db" <<'PY'
import random, sys
R = random.Random(5)
p = sys.argv[1]
d = bytearray(open(p, "rb").read())
for _ in range(60): d[R.randrange(4096, len(d))] = R.randrange(256)
d[4096:8192] = bytes(4096)
open(p, "r+b").write(d)
PY
	sum=$(sha256sum <"$s/weir.db")
	weir_start --port "$PORT" --state "$s" || return 1
	[ "$(said 'was damaged')" -eq 1 ] && [ "$(sha256sum <"$s/weir.db.damaged-1")" = "$sum" ] || { cat "$WEIR_LOG"; ls "$s"; return 1; }
	ask 2 && weir_stop && [ "$(sql "$s" "SELECT sum(requests) FROM rollups WHERE scope_kind = 'global'")" = 2 ]
}

newer() {
	local s=$WORK/newer sum
	"$WEIR" replay --state "$s" "$WORK/a.jsonl" >/dev/null 2>&1
	"$PYTHON" -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1]); db.execute("PRAGMA user_version = 99"); db.commit(); db.execute("PRAGMA wal_checkpoint(TRUNCATE)")' "$s/weir.db"
	sum=$(sha256sum <"$s/weir.db")
	weir_start --port "$PORT" --state "$s" || return 1
	[ "$(said 'newer weir')" -eq 1 ] && kept_is False && ask 1 && weir_stop || { cat "$WEIR_LOG"; return 1; }
	! "$WEIR" anomalies --state "$s" 2>"$WORK/err" && grep -q 'newer weir' "$WORK/err" || return 1
	[ "$(sha256sum <"$s/weir.db")" = "$sum" ] && [ ! -e "$s/weir.db.damaged-1" ]
}

others_folder() {
	mkdir -m 777 "$WORK/others"
	weir_start --port "$PORT" --state "$WORK/others" || return 1
	[ "$(said 'others may write there')" -eq 1 ] && kept_is False && weir_stop && [ ! -e "$WORK/others/weir.db" ]
}

make_flood "$WORK/a.jsonl" "$WORK/b.jsonl"
check "a writer is killed" writer_kills
check "an incident that is open at the end" open_at_the_end
check "a replay says the same each time" same_bytes
check "replay --follow keeps what it learns" follow_keeps
modelserver_start || { fail state "no model server: $(tail -1 "$WORK/modelserver.log")"; suite_end; }
case_state "privileges are dropped, and it goes on saving" dropped
case_state "the agent is killed" agent_kills
case_state "a full disk, and room again" full_disk
case_state "a disk that is full from the start" full_from_the_start
case_state "a read-only folder" read_only
case_state "two agents" two_agents
case_state "another process holds the database" locked
case_state "a damaged file" damaged
case_state "a file of a newer weir" newer
case_state "a folder in which others may write" others_folder
[ -s "$WORK/writer.said" ] && cat "$WORK/writer.said" >&2
suite_end
