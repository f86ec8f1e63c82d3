# lib.sh - what the end-to-end suites share; sourced, not run. bash.
#
# A suite runs cases one after another; each prints one line, `ok NAME`, `FAIL NAME: why` or `SKIP NAME: why`, and
# suite_end prints `N passed, N failed, N skipped`. What a case starts is ended by pid when the suite ends, however it ends.
# Traffic goes to loopback and to network namespaces made by the suite.
#   WEIR_KEEP=1      keep the work folder (its name is printed)
#   WEIR_TEST_PORT   first port tried (21000)
#   WEIR_E2E_CASE    run only the cases whose name matches this pattern

E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$E2E/../.." && pwd)
BUILD=${WEIR_BUILD:-$ROOT/build}
WEIR=$BUILD/weir
MODELSERVER=$BUILD/weir-modelserver
PYTHON=${PYTHON:-python3}
CACHE=${XDG_CACHE_HOME:-${HOME:-/var/cache}/.cache}/weir
SUITE=$(basename "$0" .sh)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/weir-$SUITE.XXXXXX")
chmod 711 "$WORK" # weir goes on as an unprivileged user, and its files lie here
PASSED=0 FAILED=0 SKIPPED=0
PIDS=()
NETNS=()
WEIR_PID=
PORT_NEXT=$((${WEIR_TEST_PORT:-21000} + RANDOM % 700))

ok() { printf 'ok %s\n' "$1"; PASSED=$((PASSED + 1)); }
fail() { printf 'FAIL %s: %s\n' "$1" "$(tr '\n' ';' <<<"$2" | cut -c1-1500)"; FAILED=$((FAILED + 1)); }
skip() { printf 'SKIP %s: %s\n' "$1" "$2"; SKIPPED=$((SKIPPED + 1)); }

# Ends processes that this suite started: asks, then insists.
end_pid() {
	local pid=$1 i
	kill "${2:--TERM}" "$pid" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	return 0
}

suite_cleanup() {
	local p n
	for p in $WEIR_PID "${PIDS[@]}"; do end_pid "$p"; done
	for n in "${NETNS[@]}"; do ip netns del "$n" 2>/dev/null; done
	if [ -n "${WEIR_KEEP:-}" ]; then echo "kept $WORK" >&2; else rm -rf "$WORK"; fi
}
trap suite_cleanup EXIT
trap 'exit 130' INT TERM

suite_end() {
	printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
	[ "$FAILED" -eq 0 ]
	exit
}

# Ends the suite with SKIP where nothing of it can run.
suite_needs() {
	local what
	if [ "$(id -u)" -ne 0 ]; then skip "$SUITE" "needs root to attach"; suite_end; fi
	for what in "$WEIR" "$MODELSERVER"; do
		[ -x "$what" ] || { fail "$SUITE" "$what is not built (make)"; suite_end; }
	done
	for what in "$@"; do
		command -v "$what" >/dev/null || { skip "$SUITE" "$what is not installed"; suite_end; }
	done
}

# A Python with uvicorn in it, installed once into the cache: sets VENV, or ends the suite with SKIP.
needs_uvicorn() {
	VENV=$CACHE/uvicorn
	"$VENV/bin/python" -c 'import uvicorn, uvloop, httptools, h11' 2>/dev/null && return
	mkdir -p "$CACHE"
	rm -rf "$VENV"
	{ timeout 60 "$PYTHON" -m venv "$VENV" && timeout 240 "$VENV/bin/pip" install -q --disable-pip-version-check 'uvicorn[standard]<1' h11; } >"$WORK/pip.log" 2>&1 && return
	skip "$SUITE" "uvicorn cannot be installed: $(tail -1 "$WORK/pip.log")"
	suite_end
}

case_wanted() {
	# shellcheck disable=SC2053
	[[ -z ${WEIR_E2E_CASE:-} || $1 == $WEIR_E2E_CASE ]]
}

port_new() { # sets PORT to a port on which nobody listens
	while PORT=$PORT_NEXT PORT_NEXT=$((PORT_NEXT + 1)); do
		ss -Hltn "sport = :$PORT" | grep -q . || return 0
	done
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# started PID LOG SECONDS TEXT: until TEXT stands in LOG; fails when the process ends before.
started() {
	local end=$((SECONDS + $3 + 1))
	until grep -q -- "$4" "$2" 2>/dev/null; do
		kill -0 "$1" 2>/dev/null || return 1
		[ $SECONDS -lt $end ] || return 1
		sleep 0.02
	done
}

# modelserver_start [OPTION...]: sets PORT, SERVER_PID and TRUTH; IN=NETNS runs it there.
modelserver_start() {
	port_new
	TRUTH=$WORK/truth.$PORT.json
	rm -f "$TRUTH"
	${IN:+ip netns exec "$IN"} "$MODELSERVER" --port "$PORT" --truth "$TRUTH" "$@" 2>"$WORK/modelserver.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/modelserver.log" 10 ready
}

server_end() { end_pid "$SERVER_PID"; SERVER_PID=; }

# gateway_start BACKEND ["NGINX DIRECTIVES"]: nginx before the server on that port or at unix:PATH, with these in its location; sets GATEWAY
# (its port) and GATEWAY_PID.
gateway_start() {
	local PORT backend=$1
	[[ $backend == unix:* ]] || backend=127.0.0.1:$backend
	port_new
	GATEWAY=$PORT
	mkdir -p "$WORK/nginx"
	cat >"$WORK/nginx.conf" <<-CONF
		worker_processes 2; daemon off; pid $WORK/nginx/pid; error_log $WORK/nginx/error.log; user root;
		events { worker_connections 1024; }
		http {
		  access_log off; client_body_temp_path $WORK/nginx/body; proxy_temp_path $WORK/nginx/proxy;
		  fastcgi_temp_path $WORK/nginx/f; uwsgi_temp_path $WORK/nginx/u; scgi_temp_path $WORK/nginx/s;
		  upstream model { server $backend; keepalive 16; }
		  server { listen 127.0.0.1:$GATEWAY;
		    location / { proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; ${2:-} } }
		}
	CONF
	nginx -c "$WORK/nginx.conf" -p "$WORK/nginx" 2>"$WORK/nginx.log" &
	GATEWAY_PID=$!
	PIDS+=("$GATEWAY_PID")
	wait_for 10 curl -s -o /dev/null "http://127.0.0.1:$GATEWAY/health"
}

# truth_now FILE: what the running modelserver knows.
truth_now() {
	rm -f "$TRUTH"
	kill -USR1 "$SERVER_PID" && wait_for 5 test -s "$TRUTH" && cp "$TRUTH" "$1"
}

# weir_start OPTION...: attaches; sets RECORDS and WEIR_LOG. Shedding is off but where a case asks for it: these cases demand
# every record, on machines that may be slow and busy.
weir_start() {
	RECORDS=$WORK/records.jsonl WEIR_LOG=$WORK/weir.log WEIR_OUT=$WORK/weir.out
	rm -f "$RECORDS" "$WEIR_LOG" "$WEIR_OUT" "$WORK/sock"
	"$WEIR" run --socket "$WORK/sock" --records-out "$RECORDS" --output json --cpu-limit 10000 --memory-limit 4096 --hook-limit 100000 \
		"$@" >"$WEIR_OUT" 2>"$WEIR_LOG" &
	WEIR_PID=$!
	if ! started "$WEIR_PID" "$WEIR_LOG" 15 'weir: ready'; then
		tail -3 "$WEIR_LOG" >&2
		end_pid "$WEIR_PID"
		WEIR_PID=
		return 1
	fi
}

weir_clients() { "$WEIR" clients --json --socket "$WORK/sock"; }

# stat_of KEY: one number out of what the running agent says of itself.
stat_of() {
	"$PYTHON" - "$WORK/sock" "$1" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
s.sendall(b"stats\n")
d = b""
while True:
    x = s.recv(65536)
    if not x: break
    d += x
o = json.loads(d)
for k in sys.argv[2].split("."): o = o[k]
print(o if not isinstance(o, list) else " ".join(map(str, o)))
PY
}

# Ends weir as a user would; complains when it does not end with 0, or left something in its log that a crash leaves.
weir_stop() {
	local r
	[ -n "$WEIR_PID" ] || return 1
	kill -INT "$WEIR_PID" 2>/dev/null
	# taking probes out waits for the kernel, tenths of a second for each on a busy machine
	wait_for 60 eval '! kill -0 $WEIR_PID' || { end_pid "$WEIR_PID"; WEIR_PID=; echo "weir did not end within 60 s of SIGINT"; return 1; }
	wait "$WEIR_PID"
	r=$?
	WEIR_PID=
	[ $r -eq 0 ] || { echo "weir ended with status $r: $(tail -2 "$WEIR_LOG")"; return 1; }
	! grep -E 'Sanitizer|runtime error' "$WEIR_LOG"
}

weir_rss_kib() { awk '/^VmRSS/{print $2}' "/proc/$WEIR_PID/status"; }

drive() { # drive TARGET <PLAN: sets TOLD and LOG; DRIVER="PYTHON FILE" drives in another way
	TOLD=$WORK/told.json LOG=$WORK/log.jsonl
	${IN_CLIENT:+ip netns exec "$IN_CLIENT"} ${DRIVER:-"$PYTHON" "$E2E/driver.py"} --timeout "${DRIVE_TIMEOUT:-60}" --log "$LOG" "$1" - >"$TOLD"
}

drive_errors() { "$PYTHON" -c 'import json,sys; print("; ".join(json.load(open(sys.argv[1]))["errors"][:3]) or "driver failed")' "$TOLD" 2>&1; }

# Lets the last packets pass: the kernel counts at once, a connection's end may trail.
settle() { sleep "${SETTLE:-0.3}"; }

# case_compare NAME [--truth] [COMPARE OPTIONS...] [-- RECORD OPTIONS...]: counters against what clients were told (and with
# --truth against what the server knows), then weir's end, then records against the driver's log. Says ok or FAIL.
case_compare() {
	local name=$1 with_truth= why= out options=() records=() skip_records= skip_told=
	shift
	while [ $# -gt 0 ]; do
		case $1 in
		--truth) with_truth=1 ;;
		--only-truth) with_truth=1 skip_told=1 ;;
		--no-records) skip_records=1 ;;
		--) shift; records=("$@"); break ;;
		*) options+=("$1") ;;
		esac
		shift
	done
	settle
	if ! weir_clients >"$WORK/clients.jsonl" 2>"$WORK/clients.err"; then
		why="weir clients: $(cat "$WORK/clients.err")"
	elif [ -z "$skip_told" ] && ! out=$("$PYTHON" "$E2E/compare.py" "${options[@]}" "$TOLD" "$WORK/clients.jsonl" 2>&1); then
		why="told: $out"
	elif [ -n "$with_truth" ]; then
		if ! truth_now "$WORK/now.json"; then
			why="no truth from the server"
		elif ! out=$("$PYTHON" "$E2E/compare.py" "${options[@]}" "$WORK/now.json" "$WORK/clients.jsonl" 2>&1); then
			why="server: $out"
		fi
	fi
	weir_stop >"$WORK/stop" || why="$why${why:+; }$(cat "$WORK/stop")"
	if [ -z "$skip_records" ] && ! out=$("$PYTHON" "$E2E/compare.py" --records "${records[@]}" "$LOG" "$RECORDS" 2>"$WORK/records.err"); then
		why="$why${why:+; }records: $out$(grep -v ' records ' "$WORK/records.err" | tail -1)"
	fi
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
}

# software_is CASE PATTERN: what the case's server said it is stands behind the address in its records from the second on, and nothing
# else ever does, but the unit or container that the suite itself runs in; empty: it said nothing. The counters name it by its address alone.
software_is() {
	local name=$1 pattern=$2
	case_wanted "$name" || return 0
	if jq -se --arg p "^[^ ]+:[0-9]+${pattern:+ $pattern}\$" --argjson n "$((${#pattern} > 0))" 'map(.server |= sub(" [^ ]+=[^ ]+$"; "")) |
		(map(select(.kind != "control")) | last | .server | test($p)) and
		(map(.server // empty | select(contains(" "))) | unique | length) == $n' "$RECORDS" >"$WORK/software" 2>&1 &&
		jq -se 'all(.server | test("^[^ ]+:[0-9]+$"))' "$WORK/clients.jsonl" >/dev/null; then
		ok "$name-software"
	else
		fail "$name-software" "want '$pattern': records $(jq -c .server "$RECORDS" | sort | uniq -c | tr '\n' ' ')"
	fi
}

# h2_ready: Python programs of HTTP/2, a client and servers, in a venv of the cache; installed there once. Sets H2_BIN.
h2_ready() {
	H2_BIN=$CACHE/http2/bin
	"$H2_BIN/python" -c 'import h2, hypercorn, granian' 2>/dev/null && return
	mkdir -p "$CACHE" && rm -rf "$CACHE/http2"
	{ timeout 60 "$PYTHON" -m venv "$CACHE/http2" && timeout 240 "$H2_BIN/pip" install -q --disable-pip-version-check 'h2<5' 'hypercorn<1' 'granian<3'; } >"$WORK/pip.log" 2>&1 ||
		{ rm -rf "$CACHE/http2"; return 1; }
}

# case_run NAME PORT [OPTIONS OF case_compare...] <PLAN: weir watches that port of a server that runs, clients do what the plan says.
# WEIR_OPTIONS are weir's.
case_run() {
	local name=$1 port=$2
	shift 2
	# shellcheck disable=SC2086
	if ! weir_start --port "$port" ${WEIR_OPTIONS:-}; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! drive "127.0.0.1:$port"; then
		fail "$name" "$(drive_errors)"
		weir_stop >/dev/null
	else
		case_compare "$name" "$@"
	fi
}
