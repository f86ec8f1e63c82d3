#!/bin/bash
# The agent as a process: what it refuses, what it keeps of its privileges, what it finds, what it leaves behind, and how it
# behaves when disks fill, readers go away, other agents run and its own limits are reached.
. "$(dirname "$0")/lib.sh"
suite_needs curl bpftool setpriv ss

BODY='{"model":"weir-tiny","messages":[{"role":"user","content":"hello there"}],"max_tokens":4}'

# ask [N [PORT [FROM]]]: N requests, one after another.
ask() {
	local i
	for ((i = 0; i < ${1:-1}; i++)); do
		curl -s -o /dev/null --max-time 10 ${3:+--interface "$3"} -H 'content-type: application/json' -d "$BODY" \
			"http://127.0.0.1:${2:-$PORT}/v1/chat/completions" || return 1
	done
}

# A model server of a few lines, for what the embedded one cannot do: run under any name, listen in a child.
cat >"$WORK/server.py" <<'PY'
import ctypes, http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        out = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {
            "role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)
    do_GET = do_POST
    def log_message(self, *a): pass
if len(sys.argv) > 2:
    if os.fork(): os.wait()
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: ends with its parent
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PY

# The interpreter itself: a wrapper in the way would not pass the name on.
INTERPRETER=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))')

python_server() { # python_server NAME [child]: sets PORT and SERVER_PID
	port_new
	(exec -a "$1" "$INTERPRETER" "$WORK/server.py" "$PORT" ${2:-}) &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 10 listens "$PORT"
}

listens() { ${IN:+ip netns exec "$IN"} ss -Hltn "sport = :$1" | grep -q .; }

# sum_of FIELD [CLIENT]: over what `weir clients` shows.
sum_of() {
	weir_clients | "$PYTHON" -c 'import json,sys
print(sum(o[sys.argv[1]] for o in map(json.loads, sys.stdin) if len(sys.argv) < 3 or o["client_ip"] == sys.argv[2]))' "$@"
}

requests_are() { [ "$(sum_of requests)" = "$1" ]; }
watched() { [[ " $(stat_of ports) " == *" $1 "* ]]; }

# refused STATUS TEXT COMMAND...: ends with this status and says one line that holds the text.
refused() {
	local status=$1 text=$2 out r
	shift 2
	out=$("$@" 2>&1 </dev/null)
	r=$?
	[ $r -eq "$status" ] || { echo "$*: status $r instead of $status: $out"; return 1; }
	[ "$(wc -l <<<"$out")" -eq 1 ] || { echo "$*: not one line: $out"; return 1; }
	grep -q -- "$text" <<<"$out" || { echo "$*: says: $out"; return 1; }
}

# ---- what is refused ---------------------------------------------------------------------------------
usage_case() {
	refused 2 'nothing to watch' "$WEIR" run &&
	refused 2 'unknown option' "$WEIR" run --port 1 --no-such-thing &&
	refused 2 'needs a value' "$WEIR" run --port &&
	refused 2 "'70000' is not within" "$WEIR" run --port 70000 &&
	refused 2 'unexpected argument' "$WEIR" run --port 80 extra &&
	refused 2 'standard output' "$WEIR" run --port 80 --output json --records-out - &&
	refused 2 'No such file' "$WEIR" run --config /no/such/file &&
	refused 2 'unknown option' "$WEIR" clients --nope &&
	refused 2 'unknown option' "$WEIR" check --nope &&
	refused 2 'unknown command' "$WEIR" nonsense &&
	printf '[weir]\nport = 80\nbogus = 1\n' >"$WORK/bad.conf" &&
	refused 2 'bad.conf:3: unknown setting' "$WEIR" run --config "$WORK/bad.conf" &&
	refused 2 'bad.conf:3: unknown setting' "$WEIR" check --config "$WORK/bad.conf" &&
	refused 1 'no such user' "$WEIR" run --port 80 --user no-such-user --socket "$WORK/s" &&
	refused 1 '/no/such/folder/r' "$WEIR" run --port 80 --records-out /no/such/folder/r --socket "$WORK/s" &&
	refused 2 "'quantum' is not NAME .*may_goto" "$WEIR" run --port 80 --variant quantum &&
	refused 2 "'x-foo' is not NAME .*x-forwarded-for" "$WEIR" run --port 80 --trusted-header x-foo &&
	refused 1 '/no/such/folder/st: No such file' "$WEIR" run --port 80 --state /no/such/folder/st --socket "$WORK/s" &&
	refused 1 'Not a directory' "$WEIR" run --port 80 --state "$WORK/bad.conf" --socket "$WORK/s" &&
	refused 1 '--pid 4194999: no such process' "$WEIR" run --pid 4194999 --socket "$WORK/s" &&
	refused 1 'not a cgroup' "$WEIR" run --port 80 --cgroup /tmp --socket "$WORK/s" &&
	refused 1 '/no/such/folder/s' "$WEIR" run --port 80 --socket /no/such/folder/s &&
	refused 1 'no agent is running' "$WEIR" clients --socket "$WORK/nobody" &&
	"$WEIR" run --help | grep -q -- '--records-out'
}

permission_case() {
	local nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	cp "$WEIR" "$WORK/weir" && chmod 755 "$WORK/weir"
	refused 1 'run as root' "${nobody[@]}" "$WORK/weir" run --port 80 --socket /tmp/weir-nobody.$$.sock || return 1
	"${nobody[@]}" "$WORK/weir" check >"$WORK/check" 2>&1 && { echo "check says yes without permission"; return 1; }
	grep -q 'run as root' "$WORK/check" && grep -q 'NOT possible' "$WORK/check"
}

# No cgroup v2 in sight: a mount namespace in which it is covered.
nocgroup_case() {
	unshare -m bash -c '
		while p=$(awk "\$0 ~ / - cgroup2 /{print \$5; exit}" /proc/self/mountinfo); [ -n "$p" ]; do umount -l "$p" || exit 77; done
		exec "$@"' - "$WEIR" run --port 80 --socket "$WORK/s" >"$WORK/out" 2>&1
	[ $? -eq 1 ] && [ "$(wc -l <"$WORK/out")" -eq 1 ] && grep -q 'no cgroup v2 is mounted' "$WORK/out" || { cat "$WORK/out"; return 1; }
}

check_case() {
	"$WEIR" check >"$WORK/check" || { cat "$WORK/check"; return 1; }
	grep -Eq '^cgroup_skb +ok' "$WORK/check" && grep -q 'metering is possible' "$WORK/check" &&
	"$WEIR" check --json | "$PYTHON" -c '
import json, sys
o = json.load(sys.stdin)
assert o["metering"] is True
assert all(h["state"] in ("ok", "degraded", "missing", "unknown") for h in o["hooks"])
assert all(h["lost"] for h in o["hooks"] if h["state"] != "ok"), "a hook that lacks says nothing"
assert {"cgroup_skb", "btf", "cgroup_v2"} <= {h["hook"] for h in o["hooks"]}'
}

socket_case() {
	weir_start --port "$PORT" || return 1
	[ "$(stat -c %a "$WORK/sock")" = 660 ] || { echo "mode $(stat -c %a "$WORK/sock")"; return 1; }
	refused 1 'another agent' "$WEIR" run --port "$PORT" --socket "$WORK/sock" || return 1
	weir_clients >/dev/null || { echo "the first agent does not answer any more"; return 1; }
	kill -KILL "$WEIR_PID"; wait "$WEIR_PID" 2>/dev/null; WEIR_PID=
	[ -S "$WORK/sock" ] || { echo "no stale socket to try"; return 1; }
	refused 1 'no agent is running' "$WEIR" clients --socket "$WORK/sock" || return 1
	"$WEIR" run --port "$PORT" --socket "$WORK/sock" --duration 0.2 >/dev/null 2>"$WORK/log" || { cat "$WORK/log"; return 1; }
	echo precious >"$WORK/file"
	refused 1 'is not a socket' "$WEIR" run --port "$PORT" --socket "$WORK/file" && [ "$(cat "$WORK/file")" = precious ]
}

# ---- privilege ----------------------------------------------------------------------------------------
# status_is FILE FIELD REGEX
status_is() { grep -Eq "^$2:[[:space:]]+$3\$" "$1" || { echo "$1 $(grep "^$2:" "$1")"; return 1; }; }

# Each helper has what its one task needs, of an unprivileged user, and can get no more.
helper_is_confined() { # PID NOBODY
	local s=/proc/$1/status may have
	case $(cat "/proc/$1/comm") in
	weir-discover) may=80004 ;;   # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE
	weir-find-tls) may=10000080004 ;; # and CAP_CHECKPOINT_RESTORE
	weir-attach) may=1c000280004 ;;   # and CAP_BPF, CAP_PERFMON, from Linux 6.17 on CAP_SYS_ADMIN
	*) echo "helper $(cat "/proc/$1/comm")"; return 1 ;;
	esac
	for set in CapEff CapPrm; do
		have=$(sed -n "s/^$set:[[:space:]]*//p" "$s")
		((0x$have && !(0x$have & ~0x$may))) || { echo "$(cat "/proc/$1/comm") $set $have"; return 1; }
	done
	status_is "$s" CapBnd 0+ && status_is "$s" Uid "($2[[:space:]]*){4}" && status_is "$s" NoNewPrivs 1 && status_is "$s" Seccomp 2
}

drop_case() {
	local s=/proc/$WEIR_PID/status set
	weir_start --auto --port "$PORT" --state "$WORK/state" || return 1
	s=/proc/$WEIR_PID/status
	local nobody helper helpers
	nobody=$(id -u nobody)
	for set in CapInh CapPrm CapEff CapAmb CapBnd; do status_is "$s" $set 0+ || return 1; done
	status_is "$s" Uid "($nobody[[:space:]]*){4}" && status_is "$s" NoNewPrivs 1 && status_is "$s" Seccomp 2 && status_is "$s" Groups '' || return 1
	grep -Eq '^Max core file size +0 +0 ' "/proc/$WEIR_PID/limits" || { echo "core dumps are on"; return 1; }
	[ "$(stat -c %u "/proc/$WEIR_PID/environ")" = 0 ] || { echo "dumpable"; return 1; }
	helpers=$(pgrep -P "$WEIR_PID")
	pgrep -P "$WEIR_PID" -x weir-discover >/dev/null || { echo "no weir-discover among $helpers"; return 1; }
	for helper in $helpers; do helper_is_confined "$helper" "$nobody" || return 1; done
	[ "$(stat -c '%a' "$WORK/state/key")" = 600 ] || { echo "key $(stat -c %a "$WORK/state/key")"; return 1; }
	ask 3 && wait_for 20 requests_are 3 || { echo "does not meter after the drop"; return 1; }
	weir_stop || return 1
	[ "$(wc -l <"$RECORDS")" = 3 ] || { echo "$(wc -l <"$RECORDS") records"; return 1; }
	for helper in $helpers; do
		[ ! -e "/proc/$helper" ] || { echo "a helper is still there"; return 1; }
	done
}

user_case() {
	weir_start --port "$PORT" --user daemon || return 1
	status_is "/proc/$WEIR_PID/status" Uid "($(id -u daemon)[[:space:]]*){4}" || return 1
	[ "$(stat -c %G "$WORK/sock")" = "$(id -gn daemon)" ] || { echo "socket group $(stat -c %G "$WORK/sock")"; return 1; }
	weir_stop
}

# Ids of programs and links that the agent holds.
bpf_ids() { sed -n 's/^\(prog_id\|link_id\|map_id\):[[:space:]]*\([0-9]*\)/\1 \2/p' /proc/"$1"/fdinfo/* 2>/dev/null | sort -u; }

kill_case() {
	local kind id ids helpers
	weir_start --auto --port "$PORT" || return 1
	ask 2
	ids=$(bpf_ids "$WEIR_PID")
	helpers=$(pgrep -P "$WEIR_PID")
	grep -q prog_id <<<"$ids" && grep -q link_id <<<"$ids" && grep -q map_id <<<"$ids" || { echo "no ids to look for: $ids"; return 1; }
	kill -KILL "$WEIR_PID"
	wait "$WEIR_PID" 2>/dev/null
	WEIR_PID=
	gone() {
		while read -r kind id; do
			case $kind in
			prog_id) bpftool prog show id "$id" ;;
			link_id) bpftool link show id "$id" ;;
			map_id) bpftool map show id "$id" ;;
			esac >/dev/null 2>&1 && return 1
		done <<<"$ids"
		for id in $helpers; do [ ! -e "/proc/$id" ] || return 1; done
	}
	wait_for 10 gone || { echo "something outlived kill -9"; return 1; }
}

# ---- discovery ---------------------------------------------------------------------------------------
late_case() {
	port_new
	local port=$PORT
	weir_start --port "$port" || return 1
	grep -q "nothing listens on port $port" "$WEIR_LOG" || { echo "does not say that nothing listens"; return 1; }
	PORT_NEXT=$port
	modelserver_start && [ "$PORT" = "$port" ] || { echo "server on $PORT instead of $port"; return 1; }
	ask 3 && wait_for 20 requests_are 3 || { echo "late server: $(sum_of requests)"; return 1; }
	server_end
	PORT_NEXT=$port
	modelserver_start && [ "$PORT" = "$port" ] || { echo "restarted on $PORT instead of $port"; return 1; }
	ask 2 && wait_for 20 requests_are 5 || { echo "after the restart: $(sum_of requests)"; return 1; }
	server_end
	weir_stop
}

pid_case() {
	python_server some-server child || { echo "no server"; return 1; }
	weir_start --pid "$SERVER_PID" || return 1
	grep -q "watching port $PORT" "$WEIR_LOG" || { cat "$WEIR_LOG"; return 1; }
	ask 4 && wait_for 20 requests_are 4 || { echo "requests $(sum_of requests)"; return 1; }
	[ "$(sum_of completion_tokens)" = 12 ] || { echo "tokens $(sum_of completion_tokens)"; return 1; }
	server_end
	weir_stop
}

pid_netns_case() {
	local ns=weir-agent-$$
	ip netns add "$ns" && NETNS+=("$ns") || return 1
	ip -n "$ns" link set lo up
	IN=$ns port_new
	ip netns exec "$ns" "$INTERPRETER" "$WORK/server.py" "$PORT" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	IN=$ns wait_for 10 listens "$PORT" || { echo "no server"; return 1; }
	weir_start --pid "$SERVER_PID" || return 1
	grep -q "watching port $PORT" "$WEIR_LOG" || { cat "$WEIR_LOG"; return 1; }
	ip netns exec "$ns" curl -s -o /dev/null -d "$BODY" "http://127.0.0.1:$PORT/v1/chat/completions" && wait_for 20 requests_are 1 ||
		{ echo "requests $(sum_of requests)"; return 1; }
	server_end
	weir_stop
}

auto_case() {
	weir_start --auto || return 1
	python_server llama-server || { echo "no server"; return 1; }
	wait_for 10 watched "$PORT" || { echo "not found: $(tail -3 "$WEIR_LOG")"; return 1; }
	grep -q "watching port $PORT (llama.cpp, pid $SERVER_PID)" "$WEIR_LOG" || { tail -3 "$WEIR_LOG"; return 1; }
	ask 3 && wait_for 5 eval '[ "$(sum_of requests)" -ge 3 ]' || return 1
	# An ordinary web server is not looked for ...
	local first=$PORT plain
	python_server plain-server && plain=$PORT
	"$WEIR" check --json | grep -q "\"port\":$first," || { echo "check does not list it"; return 1; }
	"$WEIR" check --json | grep -q "\"port\":$plain," && { echo "check lists a server that is none"; return 1; }
	watched "$plain" && { echo "watches any server"; return 1; }
	weir_stop
}

# ... and one that only has the name of a model server is let go.
auto_doubt_case() {
	python_server llama-server || { echo "no server"; return 1; }
	weir_start --auto || return 1
	wait_for 5 watched "$PORT" || { echo "not found"; return 1; }
	seq -f "url = \"http://127.0.0.1:$PORT/index.html?%g\"" 1 300 >"$WORK/urls"
	curl -s -o /dev/null -K "$WORK/urls"
	wait_for 5 grep -q "port $PORT does not speak a model API" "$WEIR_LOG" || { echo "still believed; records $(wc -l <"$RECORDS")"; return 1; }
	watched "$PORT" && { echo "said, not done"; return 1; }
	sleep 3 # the next scan finds the same process again
	watched "$PORT" && { echo "found again"; return 1; }
	server_end
	weir_stop
}

# ---- outputs -----------------------------------------------------------------------------------------
flush_case() {
	weir_start --port "$PORT" || return 1
	ask 25 || return 1
	weir_stop || return 1
	[ "$(wc -l <"$RECORDS")" = 25 ] || { echo "$(wc -l <"$RECORDS") records of 25"; return 1; }
	grep -q 'weir: 25 requests' "$WEIR_LOG" && grep -q 'weir: lost: nothing' "$WEIR_LOG" || { tail -2 "$WEIR_LOG"; return 1; }
	"$PYTHON" -c 'import json,sys
for l in open(sys.argv[1]): assert json.loads(l)["status"] == 200' "$RECORDS"
}

duration_case() {
	printf '[weir]\nport = %s\nduration = 1\n' "$PORT" >"$WORK/good.conf"
	chmod 644 "$WORK/good.conf"
	weir_start --config "$WORK/good.conf" || return 1
	wait_for 10 eval '! kill -0 $WEIR_PID' || { echo "does not end by itself"; return 1; }
	wait "$WEIR_PID" || { echo "status $?"; WEIR_PID=; return 1; }
	WEIR_PID=
}

full_disk_case() {
	mkdir -p "$WORK/disk" && mount -t tmpfs -o size=16k tmpfs "$WORK/disk" || { echo "cannot mount"; return 1; }
	weir_start --port "$PORT" --records-out "$WORK/disk/r.jsonl"
	local r=$? why=
	[ $r -eq 0 ] && ask 120 && wait_for 20 requests_are 120 || why="metering stopped"
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	[ "$(grep -c 'records are not written' "$WEIR_LOG")" = 1 ] || why="$why said $(grep -c 'records are not written' "$WEIR_LOG") times"
	grep -Eq 'lost:.* records_not_written [1-9]' "$WEIR_LOG" || why="$why not counted: $(tail -1 "$WEIR_LOG")"
	"$PYTHON" -c 'import json,sys
n = sum(1 for l in open(sys.argv[1]) if json.loads(l))
assert n > 10, n' "$WORK/disk/r.jsonl" || why="$why the file is torn"
	umount "$WORK/disk"
	[ -z "$why" ] || { echo "$why"; return 1; }
}

closed_pipe_case() {
	mkfifo "$WORK/pipe"
	head -n 3 "$WORK/pipe" >"$WORK/head" &
	"$WEIR" run --port "$PORT" --socket "$WORK/sock" --records-out - >"$WORK/pipe" 2>"$WORK/pipe.log" &
	WEIR_PID=$! WEIR_LOG=$WORK/pipe.log
	started "$WEIR_PID" "$WORK/pipe.log" 10 'weir: ready' || return 1
	ask 20 && wait_for 20 requests_are 20 || { echo "metering stopped: $(tail -2 "$WORK/pipe.log")"; return 1; }
	[ "$(wc -l <"$WORK/head")" = 3 ] || { echo "the reader got $(wc -l <"$WORK/head") lines"; return 1; }
	weir_stop && grep -q 'records are not written: Broken pipe' "$WORK/pipe.log"
}

# ---- several at once, and callers that mean no good ----------------------------------------------------
two_case() {
	local second
	weir_start --port "$PORT" || return 1
	"$WEIR" run --port "$PORT" --socket "$WORK/sock2" --records-out "$WORK/r2.jsonl" >/dev/null 2>"$WORK/log2" &
	second=$!
	PIDS+=("$second")
	started "$second" "$WORK/log2" 10 'weir: ready' || { cat "$WORK/log2"; return 1; }
	ask 10 && wait_for 20 requests_are 10 || { echo "first: $(sum_of requests)"; return 1; }
	"$WEIR" clients --json --socket "$WORK/sock2" | grep -q '"requests":10,' || { "$WEIR" clients --socket "$WORK/sock2"; return 1; }
	end_pid "$second" -INT
	ask 5 && wait_for 20 requests_are 15 || { echo "the end of one stopped the other"; return 1; }
	weir_stop
	[ "$(wc -l <"$WORK/r2.jsonl")" = 10 ]
}

callers_case() {
	weir_start --port "$PORT" || return 1
	ask 3
	"$PYTHON" - "$WORK/sock" <<'PY' || return 1
import os, socket, sys, time
def call():
    for _ in range(100):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        try:
            s.connect(sys.argv[1])
            return s
        except BlockingIOError:  # its queue of callers is full: a matter of milliseconds
            s.close()
            time.sleep(0.05)
    raise SystemExit("nobody takes the call")
silent = [call() for _ in range(3)]
half = call(); half.sendall(b"cli")
deaf = call(); deaf.sendall(b"clients\n")
def answer(q):
    s = call()
    try:
        s.sendall(q)
        d = b""
        while True:
            x = s.recv(4096)
            if not x: return d
            d += x
    except (ConnectionResetError, BrokenPipeError):
        return b""
for bad in (b"\n", b"x" * 4096, b"clients", b"\0" * 64 + b"\n", b"stats clients\n", os.urandom(64)):
    if bad != b"clients": assert answer(bad) == b"", bad
assert b'"requests":3' in answer(b"clients\n")
more = [call() for _ in range(40)]        # beyond what is served at once: hung up on
PY
	ask 2 && wait_for 15 requests_are 5 || { echo "callers keep the agent from work"; return 1; }
	weir_stop
}

# ---- bounded tables ------------------------------------------------------------------------------------
aged_case() {
	weir_start --port "$PORT" --client-idle 1 || return 1
	ask 2 "$PORT" 127.0.0.31 && ask 3 "$PORT" 127.0.0.32 || return 1
	local tokens
	tokens=$(sum_of completion_tokens)
	wait_for 15 eval '[ "$(sum_of requests aged)" = 5 ]' || { weir_clients; return 1; }
	[ "$(weir_clients | wc -l)" = 1 ] || { echo "not removed: $(weir_clients)"; return 1; }
	ask 4 "$PORT" 127.0.0.31 && wait_for 20 requests_are 9 || { echo "sum $(sum_of requests)"; return 1; }
	wait_for 15 eval '[ "$(sum_of requests aged)" = 9 ]' || return 1
	[ "$(sum_of completion_tokens)" -gt "$tokens" ] && weir_stop
}

other_case() {
	local i
	weir_start --port "$PORT" --max-clients 2 || return 1
	for i in 41 42 43 44 45; do ask 3 "$PORT" 127.0.0.$i || return 1; done
	wait_for 20 requests_are 15 || { echo "sum $(sum_of requests) of 15"; return 1; }
	[ "$(sum_of requests other)" = 9 ] || { echo "other $(sum_of requests other) of 9"; return 1; }
	weir_stop && [ "$(wc -l <"$RECORDS")" = 15 ] && grep -q 'client_table_full' "$WEIR_LOG"
}

# What the ring loses is in `lost` lines, so that records and counters agree whatever happened.
lost_case() {
	command -v wrk >/dev/null || return 77
	weir_start --port "$PORT" --ring-size 4096 || return 1
	printf 'wrk.method="POST"\nwrk.headers["content-type"]="application/json"\nwrk.body=%s\n' "'$BODY'" >"$WORK/post.lua"
	wrk -t 2 -c 32 -d 3 -s "$WORK/post.lua" "http://127.0.0.1:$PORT/v1/chat/completions" >/dev/null
	sleep 1.5
	weir_clients >"$WORK/clients.jsonl"
	weir_stop || return 1
	"$PYTHON" - "$WORK/clients.jsonl" "$RECORDS" <<'PY'
import json, sys
c = [json.loads(l) for l in open(sys.argv[1])]
r = [json.loads(l) for l in open(sys.argv[2])]
lost = [x for x in r if x.get("lost")]
assert lost, "nothing was lost: the ring was not small enough"
def total(rows, key): return sum(x.get(key, 0) for x in rows if not x.get("estimated"))
n = sum(x.get("weight", 1) for x in r)
assert n == total(c, "requests"), f'{n} requests in records, {total(c, "requests")} counted'
assert sum(x["weight"] if "weight" in x else 1 for x in lost) == total(c, "lost"), "lost lines are not what the counters lost"
for k in ("prompt_tokens", "completion_tokens"):
    assert total(r, k) == total(c, k), f"{k}: {total(r, k)} in records, {total(c, k)} counted"
PY
}

# ---- self-limit ------------------------------------------------------------------------------------------
limit_case() {
	local load level
	command -v wrk >/dev/null || return 77
	weir_start --port "$PORT" --hook-limit 0.001 || return 1
	printf 'wrk.method="POST"\nwrk.headers["content-type"]="application/json"\nwrk.body=%s\n' "'$BODY'" >"$WORK/post.lua"
	wrk -t 1 -c 4 -d 40 -s "$WORK/post.lua" "http://127.0.0.1:$PORT/v1/chat/completions" >/dev/null &
	load=$!
	PIDS+=("$load")
	wait_for 20 eval '[ "$(stat_of shed)" -ge 2 ]' || { echo "does not shed: level $(stat_of shed), $(stat_of hook_us) us"; end_pid $load; return 1; }
	# Records are shed, counters go on.
	local before after
	before=$(sum_of requests)
	sleep 0.5
	after=$(sum_of requests)
	[ "$after" -gt "$before" ] || { echo "the counters stand still"; end_pid $load; return 1; }
	wait_for 20 eval '[ "$(stat_of shed)" = 4 ]' || { echo "level $(stat_of shed)"; end_pid $load; return 1; }
	before=$(sum_of requests)
	sleep 0.5
	[ "$(sum_of requests)" = "$before" ] || { echo "still on its hook"; end_pid $load; return 1; }
	end_pid "$load"
	for level in 'body slices' 'records' 'body scanning' 'the whole meter'; do
		[ "$(grep -c "shedding $level" "$WEIR_LOG")" = 1 ] || { echo "said of $level: $(grep -c "shedding $level" "$WEIR_LOG") times"; return 1; }
	done
	# Calm: one level after the other comes back, and metering with it.
	wait_for 60 eval '[ "$(stat_of shed)" = 0 ]' || { echo "does not recover: level $(stat_of shed): $(tail -2 "$WEIR_LOG")"; return 1; }
	grep -q 'calm again' "$WEIR_LOG" || { echo "recovers without a word"; return 1; }
	before=$(sum_of requests)
	ask 2 && wait_for 20 requests_are $((before + 2)) || { echo "does not meter after recovery"; return 1; }
	weir_stop
}

# own_case OPTION VALUE WORD: a ceiling that the agent is above from the start. Records go, counters stay.
own_case() {
	weir_start --port "$PORT" "$1" "$2" || return 1
	wait_for 20 eval '[ "$(stat_of shed)" = 2 ]' || { echo "level $(stat_of shed)"; return 1; }
	ask 3 && wait_for 20 requests_are 3 || { echo "the counters stand still"; return 1; }
	grep -q "own $3 is above its limit" "$WEIR_LOG" || { tail -2 "$WEIR_LOG"; return 1; }
	weir_stop || return 1
	"$PYTHON" -c 'import json,sys
r = [json.loads(l) for l in open(sys.argv[1])]
assert sum(x.get("weight", 1) for x in r) == 3 and any(x.get("lost") for x in r), r' "$RECORDS"
}

run_case() { # run_case NAME FUNCTION [ARGUMENT...]: 77 is a SKIP
	local name=$1
	shift
	case_wanted "$name" || return 0
	"$@" >"$WORK/case" 2>&1
	case $? in
	0) ok "$name" ;;
	77) skip "$name" "wrk is not installed" ;;
	*) fail "$name" "$(tail -5 "$WORK/case")" ;;
	esac
	if [ -n "$WEIR_PID" ]; then end_pid "$WEIR_PID"; WEIR_PID=; fi
}

run_case usage usage_case
run_case permission permission_case
run_case no-cgroup nocgroup_case
run_case check check_case
run_case late late_case
run_case pid pid_case
run_case pid-netns pid_netns_case
run_case auto auto_case
run_case auto-doubt auto_doubt_case
modelserver_start || { fail agent "the model server does not start"; suite_end; }
run_case socket socket_case
run_case drop drop_case
run_case user user_case
run_case kill kill_case
run_case flush flush_case
run_case duration duration_case
run_case full-disk full_disk_case
run_case closed-pipe closed_pipe_case
run_case two two_case
run_case callers callers_case
run_case aged aged_case
run_case other other_case
run_case lost lost_case
run_case self-limit limit_case
run_case memory-limit own_case --memory-limit 1 memory
run_case cpu-limit own_case --cpu-limit 0.01 CPU
suite_end
