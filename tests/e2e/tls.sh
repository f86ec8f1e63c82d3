#!/usr/bin/env bash
# TLS without keys: servers that end TLS themselves, on every way that their library is used. uvicorn through asyncio and uvloop (memory
# BIOs), nginx (the library reads and writes the socket), node (its own OpenSSL), llama-server (heads read byte by byte), libmicrohttpd
# (GnuTLS); HTTP/2 in TLS.
# Then servers that come later, and probes that come and go.
#   WEIR_TLS_CYCLES  how often probes are set on a busy server and taken out (100; make test-tls-cycles: 10000)
. "$(dirname "$0")/lib.sh"
suite_needs ss "$PYTHON" openssl curl jq

KEY=$WORK/key.pem CERT=$WORK/cert.pem
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$KEY" -out "$CERT" -days 30 -subj /CN=localhost 2>"$WORK/openssl.log" ||
	{ fail "$SUITE" "no certificate: $(tail -1 "$WORK/openssl.log")"; suite_end; }
SECRET=sk-weir-e2e-5e1f00d PROMPT="the otter counts forty-one herons"

serves() { wait_for "$1" curl -ksf -o /dev/null "https://127.0.0.1:$PORT/health"; }

VENV=$CACHE/uvicorn
uvicorn_ready() {
	"$VENV/bin/python" -c 'import uvicorn, uvloop, httptools, h11' 2>/dev/null && return
	mkdir -p "$CACHE" && rm -rf "$VENV"
	timeout 60 "$PYTHON" -m venv "$VENV" && timeout 240 "$VENV/bin/pip" install -q --disable-pip-version-check 'uvicorn[standard]<1' h11
}

uvicorn_start() {
	[ -n "${SAME_PORT:-}" ] || port_new
	"$VENV/bin/python" -m uvicorn --app-dir "$E2E" --host 127.0.0.1 --port "$PORT" --log-level warning --no-access-log \
		--ssl-keyfile "$KEY" --ssl-certfile "$CERT" "$@" asgi_app:app >"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 20
}

node_start() {
	port_new
	node "$E2E/tls_node.js" "$PORT" "$KEY" "$CERT" "$@" >"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 20
}

hypercorn_start() {
	port_new
	(cd "$E2E" && PYTHONDONTWRITEBYTECODE=1 exec "$H2_BIN/hypercorn" -b "127.0.0.1:$PORT" --certfile "$CERT" --keyfile "$KEY" \
		--log-level warning --keep-alive 600 asgi_app:app) >"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 20
}

nginx_start() { # in front of a modelserver
	modelserver_start || return
	local upstream=$PORT
	port_new
	mkdir -p "$WORK/nginx"
	cat >"$WORK/nginx.conf" <<-CONF
		worker_processes 2; daemon off; pid $WORK/nginx/pid; error_log $WORK/nginx/error.log; user root;
		events { worker_connections 2048; }
		http {
		  access_log off; keepalive_requests 100000000; client_body_temp_path $WORK/nginx/body; proxy_temp_path $WORK/nginx/proxy;
		  fastcgi_temp_path $WORK/nginx/f; uwsgi_temp_path $WORK/nginx/u; scgi_temp_path $WORK/nginx/s;
		  upstream model { server 127.0.0.1:$upstream; keepalive 32; }
		  server { listen 127.0.0.1:$PORT ssl ${HTTP2:+http2}; ssl_certificate $CERT; ssl_certificate_key $KEY; $*
		    location / { proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; client_max_body_size 100m; } }
		}
	CONF
	nginx -c "$WORK/nginx.conf" -p "$WORK/nginx" 2>"$WORK/server.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 10
}

gnutls_start() { # libmicrohttpd, which has its TLS from GnuTLS
	port_new
	"$BUILD/e2e/gnutls_server" "$PORT" "$KEY" "$CERT" >"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 10
}

llama_start() {
	port_new
	"$LLAMA" -m "$GGUF" --alias tiny --host 127.0.0.1 --port "$PORT" -c 65536 -np 4 -t 1 --offline --ssl-key-file "$KEY" --ssl-cert-file "$CERT" \
		>"$WORK/server.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	serves 60
}

# quiet: nothing of TLS was lost. Says what was.
quiet() {
	local out
	out=$(sed -n 's/^weir: lost: //p' "$WEIR_LOG")
	! grep -oE '(tls|http2)_[a-z_]+ [0-9]+|not_http [0-9]+' <<<"$out"
}

# on NAME "STARTER OPTION..." [COMPARE OPTIONS...] <PLAN
on() {
	local name=$1 starter=$2 plan out
	shift 2
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	$starter || { fail "$name" "the server did not start: $(tail -1 "$WORK/server.log")"; server_end; return; }
	case_run "$name" "$PORT" "$@" <<<"$plan"
	[ ! -r "$WEIR_LOG" ] || out=$(quiet) || fail "$name-loss" "$out"
	server_end
}

shapes='{"model": "tiny-llama", "tls": true, "key": "'$SECRET'", "clients": [{"src": "127.0.0.11", "count": 10, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57, "prompt": "'$PROMPT'"}, {"stream": true, "tokens": 9}, {"api": "get"},
  {"body": "{bad", "expect": 400}, {"path": "/v1/nowhere", "expect": [404, 405]}, {"tokens": 3, "prompt_bytes": 50000}]},
  {"src": "127.0.0.31", "count": 4, "keepalive": false, "loops": 3, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 20}]},
  {"src": "127.0.0.41", "pipeline": 3, "requests": [{"tokens": 12, "repeat": 6}, {"stream": true, "usage": true, "tokens": 20, "repeat": 3}]},
  {"src": "127.0.0.51", "requests": [{"tokens": 20000}, {"stream": true, "usage": true, "tokens": 3000}, {"tokens": 60000, "prompt_bytes": 200000}]}]}'
# Two hundred connections at once, all of one thread of the server.
crowd='{"model": "tiny-llama", "tls": true, "clients": [{"src": "127.0.0.11", "count": 50, "parallel": 4, "loops": 2, "requests": [
  {"stream": true, "usage": true, "tokens": 23}, {"tokens": 7}]}]}'
# Clients that hang up in the middle of an answer.
aborts='{"model": "tiny-llama", "tls": true, "clients": [{"src": "127.0.0.11", "count": 6, "requests": [
  {"stream": true, "usage": true, "tokens": 30}, {"stream": true, "usage": true, "tokens": 20000, "abort_after": 5, "repeat": 2}, {"tokens": 5},
  {"stream": true, "usage": true, "tokens": 12}]}]}'
long='{"model": "tiny-llama", "tls": true, "clients": [{"src": "127.0.0.11", "requests": [{"stream": true, "usage": true, "tokens": 100000}]},
  {"src": "127.0.0.12", "requests": [{"stream": true, "tokens": 500}, {"stream": true, "usage": true, "tokens": 5000}]}]}'

# burst NAME "STARTER OPTION...": two hundred connections, each with a stream, all at once and as fast as the server can write: the usage of all of it is counted, or what is missing is told as lost. Says how fast it was.
BURST_REQUESTS=200 BURST_TOKENS=500
burst() {
	local name=$1 starter=$2 why= done_ got lost took
	case_wanted "$name" || return 0
	command -v h2load >/dev/null || { skip "$name" "h2load is not installed"; return; }
	# shellcheck disable=SC2086
	$starter || { fail "$name" "the server did not start: $(tail -1 "$WORK/server.log")"; server_end; return; }
	weir_start --port "$PORT" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	printf '{"model":"tiny-llama","stream":true,"stream_options":{"include_usage":true},"max_tokens":%d,"messages":[{"role":"user","content":"a b c d e"}]}' $BURST_TOKENS >"$WORK/body.json"
	timeout 120 h2load --h1 -n $BURST_REQUESTS -c 200 -t 1 -d "$WORK/body.json" -H 'content-type: application/json' \
		"https://127.0.0.1:$PORT/v1/chat/completions" >"$WORK/h2load.txt" 2>&1
	done_=$(sed -n 's/^status codes: \([0-9]*\) 2xx.*/\1/p' "$WORK/h2load.txt")
	took=$(sed -n 's/^finished in \([^,]*\),.*/\1/p' "$WORK/h2load.txt")
	settle
	weir_clients >"$WORK/clients.jsonl"
	got=$(jq -s 'map(.completion_tokens) | add' "$WORK/clients.jsonl")
	weir_stop >"$WORK/stop" || why="$(cat "$WORK/stop")"
	lost=$(quiet)
	if [ "${done_:-0}" -ne $BURST_REQUESTS ]; then
		why="$why h2load: $(tail -3 "$WORK/h2load.txt")"
	elif [ "$got" -gt $((BURST_REQUESTS * BURST_TOKENS)) ] || [ $((got * 1000)) -lt $((BURST_REQUESTS * BURST_TOKENS * 999)) ]; then
		why="$why usage of $got tokens, truth $((BURST_REQUESTS * BURST_TOKENS))"
	elif [ "$got" -ne $((BURST_REQUESTS * BURST_TOKENS)) ] && [ -z "$lost" ]; then
		why="$why usage of $got tokens, truth $((BURST_REQUESTS * BURST_TOKENS)), and no loss is told"
	fi
	echo "note $name: $BURST_REQUESTS streams of $BURST_TOKENS events on 200 connections in ${took:-?}: usage of $got tokens of $((BURST_REQUESTS * BURST_TOKENS)) counted; lost: ${lost:-nothing}"
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	server_end
}

# Neither the key nor the prompt stands anywhere in what weir wrote or says.
secrets_stay() {
	local name=$1 where
	case_wanted "$name" || return 0
	where=$(grep -rlF -e "$SECRET" -e "$PROMPT" "$RECORDS" "$WEIR_LOG" "$WEIR_OUT" "$WORK/clients.jsonl" 2>/dev/null)
	if [ ! -s "$RECORDS" ]; then
		fail "$name" "no records to look into"
	elif [ -n "$where" ]; then
		fail "$name" "found in $where"
	else
		ok "$name"
	fi
}

# weir is there first; then the server, and the server once more.
late() {
	local name=$1 out why=
	case_wanted "$name" || return 0
	port_new
	weir_start --port "$PORT" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; return; }
	for _ in first second; do
		SAME_PORT=1 uvicorn_start --loop uvloop --http httptools || { fail "$name" "the server did not start: $(tail -1 "$WORK/server.log")"; weir_stop >/dev/null; return; }
		wait_for 15 grep -q 'metering TLS in' "$WEIR_LOG" || why="no probe was set"
		sleep 4 # two looks: the new process is known by then
		weir_clients >"$WORK/before.jsonl"
		drive "127.0.0.1:$PORT" <<<"$small" || why="$why $(drive_errors)"
		settle
		weir_clients >"$WORK/after.jsonl"
		out=$("$PYTHON" - "$WORK/before.jsonl" "$WORK/after.jsonl" "$TOLD" <<'PY'
import json, sys
def sums(path):
    rows = [json.loads(l) for l in open(path)]
    return {f: sum(r[f] for r in rows if r["client_ip"].startswith("127.0.0.6")) for f in ("requests", "prompt_tokens", "completion_tokens")}
a, b, told = sums(sys.argv[1]), sums(sys.argv[2]), json.load(open(sys.argv[3]))["total"]
wrong = [f"{f}: {b[f] - a[f]}, told {told[f]}" for f in a if b[f] - a[f] != told[f]]
print("; ".join(wrong))
PY
		) || out="cannot compare"
		[ -z "$out" ] || why="$why $out"
		server_end
	done
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
}

# leftovers PROGRAM: what the kernel still knows of it and of its probes. (Other agents of this host have programs of the same name.)
leftovers() {
	local tool
	tool=$(command -v bpftool || echo /usr/sbin/bpftool)
	"$tool" prog show id "$1" 2>/dev/null
	"$tool" link list 2>/dev/null | grep -w "prog $1"
	grep -h . /sys/kernel/tracing/uprobe_events /sys/kernel/debug/tracing/uprobe_events 2>/dev/null | grep weir
}

cycles() {
	local name=$1 times=${WEIR_TLS_CYCLES:-100} fds program out why= load
	case_wanted "$name" || return 0
	[ -x "$BUILD/e2e/tls_cycles" ] || { fail "$name" "$BUILD/e2e/tls_cycles is not built"; return; }
	uvicorn_start --loop uvloop --http httptools || { fail "$name" "the server did not start"; return; }
	drive "127.0.0.1:$PORT" <<<"$small"
	sleep 0.5
	fds=$(ls "/proc/$SERVER_PID/fd" | wc -l)
	(while :; do "$PYTHON" "$E2E/driver.py" "127.0.0.1:$PORT" - <<<"$small" >>"$WORK/load.json" 2>&1 || echo BROKEN >>"$WORK/load.json"; done) &
	load=$!
	PIDS+=("$load")
	out=$("$BUILD/e2e/tls_cycles" "$SERVER_PID" "$PORT" "$times" 2>&1) || why="$out"
	kill "$load" && wait "$load" 2>/dev/null
	sleep 1
	grep -q ', 0 calls metered' <<<"$out" && why="$why nothing was metered meanwhile: $out"
	kill -0 "$SERVER_PID" 2>/dev/null || why="$why the server is gone"
	drive "127.0.0.1:$PORT" <<<"$small" || why="$why $(drive_errors)"
	sleep 0.5
	[ "$(ls "/proc/$SERVER_PID/fd" | wc -l)" -le "$fds" ] || why="$why the server has more descriptors than before: $(ls -l "/proc/$SERVER_PID/fd" | tail -3)"
	! grep -q BROKEN "$WORK/load.json" || why="$why a request failed"
	program=$(sed -n 's/^program \([1-9][0-9]*\)$/\1/p' <<<"$out")
	[ -n "$program" ] || why="$why no program: $out"
	[ -z "$(leftovers "${program:-0}")" ] || why="$why left behind: $(leftovers "$program")"
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	server_end
}

# TLS that cannot be metered, in real servers: which it is, what is lost and the way out stand in `weir check` per process and in the
# agent's log, and every connection is counted.
blind_start() {
	port_new
	case $1 in
	caddy)
		printf '{\n admin off\n auto_https off\n}\nhttps://localhost:%s {\n bind 127.0.0.1\n tls %s %s\n respond /health "{}"\n}\n' "$PORT" "$CERT" "$KEY" >"$WORK/Caddyfile"
		XDG_DATA_HOME=$WORK XDG_CONFIG_HOME=$WORK caddy run --config "$WORK/Caddyfile" --adapter caddyfile >"$WORK/server.log" 2>&1 &
		;;
	granian)
		openssl pkcs8 -topk8 -nocrypt -in "$KEY" -out "$WORK/key8.pem"
		(cd "$E2E" && PYTHONDONTWRITEBYTECODE=1 exec "$H2_BIN/granian" --interface asgi --host 127.0.0.1 --port "$PORT" --ssl-certificate "$CERT" \
			--ssl-keyfile "$WORK/key8.pem" --log-level warning asgi_app:app) >"$WORK/server.log" 2>&1 &
		;;
	grpcio)
		"$CACHE/grpc/bin/python" - "$PORT" "$KEY" "$CERT" >"$WORK/server.log" 2>&1 <<-'PY' &
			import sys, grpc
			from concurrent import futures
			key, cert = (open(p, "rb").read() for p in sys.argv[2:4])
			s = grpc.server(futures.ThreadPoolExecutor(1))
			s.add_secure_port(f"127.0.0.1:{sys.argv[1]}", grpc.ssl_server_credentials([(key, cert)]))
			s.start()
			s.wait_for_termination()
		PY
		;;
	esac
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 20 greets
}

greets() { openssl s_client -connect "127.0.0.1:$PORT" -servername localhost -alpn h2 </dev/null 2>/dev/null | grep -q 'BEGIN CERTIFICATE'; }

blind() { # blind CASE SERVER ITS-PROGRAM KIND
	local name=$1 program=$3 kind=$4 why= n
	case_wanted "$name" || return 0
	command -v "$program" >/dev/null || { skip "$name" "$program is not there"; return; }
	blind_start "$2" || { fail "$name" "the server did not start: $(tail -1 "$WORK/server.log")"; server_end; return; }
	"$WEIR" check --json --port "$PORT" >"$WORK/check.json" 2>"$WORK/check.err"
	jq -e --argjson port "$PORT" --arg kind "$kind" '.servers[] | select(.port == $port) | .tls | any(.kind == $kind and .metered == false and (.lost | test("not metered.*proxy")))' \
		"$WORK/check.json" >/dev/null || why="weir check: $(jq -c --argjson port "$PORT" '.servers[] | select(.port == $port)' "$WORK/check.json") $(tail -1 "$WORK/check.err")"
	"$WEIR" check --port "$PORT" 2>/dev/null | grep -q -- "-> .*: $kind; .*not metered" || why="$why its table does not say it"
	if weir_start --port "$PORT"; then
		for _ in 1 2 3; do greets || why="$why no handshake"; done
		wait_for 5 eval '[ "$(stat_of kernel.tls_blind)" -ge 3 ]'
		n=$(stat_of kernel.tls_blind)
		[ "$n" -eq 3 ] || why="$why tls_blind $n, want 3"
		wait_for 5 grep -q "$kind, if it speaks TLS: .*not metered" "$WEIR_LOG" || why="$why the log does not say it"
		weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	else
		why="$why weir did not attach: $(tail -2 "$WEIR_LOG")"
	fi
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	server_end
}

small='{"model": "tiny-llama", "tls": true, "clients": [{"src": "127.0.0.61", "count": 5, "requests": [{"stream": true, "usage": true, "tokens": 40, "repeat": 3}, {"tokens": 7}]}]}'

if uvicorn_ready >"$WORK/pip.log" 2>&1; then
	late late
	cycles cycles
	for loop in asyncio uvloop; do
		http=$([ $loop = asyncio ] && echo h11 || echo httptools)
		on "$loop-shapes" "uvicorn_start --loop $loop --http $http" <<<"$shapes"
		secrets_stay "$loop-shapes-secrets"
		on "$loop-crowd" "uvicorn_start --loop $loop --http $http" <<<"$crowd"
		on "$loop-aborts" "uvicorn_start --loop $loop --http $http" --aborted-more -- --ends <<<"$aborts"
		DRIVE_TIMEOUT=240 on "$loop-long" "uvicorn_start --loop $loop --http $http" <<<"$long"
	done
	burst burst-uvloop "uvicorn_start --loop uvloop --http httptools"
	on workers "uvicorn_start --loop uvloop --http httptools --workers 2" <<<"$crowd"
else
	skip "$SUITE-uvicorn" "uvicorn cannot be installed: $(tail -1 "$WORK/pip.log")"
fi

if command -v nginx >/dev/null; then
	on nginx-shapes nginx_start <<<"${shapes//tiny-llama/weir-tiny}"
	on nginx-crowd nginx_start <<<"${crowd//tiny-llama/weir-tiny}"
	on nginx-tls12 "nginx_start ssl_protocols TLSv1.2;" <<<"${crowd//tiny-llama/weir-tiny}"
	DRIVE_TIMEOUT=240 on nginx-long nginx_start <<<"${long//tiny-llama/weir-tiny}"
else
	skip "$SUITE-nginx" "nginx is not installed"
fi

if command -v node >/dev/null; then
	burst burst-node node_start
	on node-shapes node_start <<<"$shapes"
	on node-crowd node_start <<<"$crowd"
	DRIVE_TIMEOUT=240 on node-long node_start <<<"$long"
else
	skip "$SUITE-node" "node is not installed (Debian: nodejs)"
fi

if [ -x "$BUILD/e2e/gnutls_server" ]; then
	on gnutls-shapes gnutls_start <<<"$shapes"
	on gnutls-crowd gnutls_start <<<"$crowd"
else
	fail "$SUITE-gnutls" "$BUILD/e2e/gnutls_server is not built"
fi

# HTTP/2, by ALPN: the hook passes plaintext up as it does that of clear text (docs/http2.md); many streams of a connection at once.
streams='{"model": "tiny-llama", "tls": true, "key": "'$SECRET'", "clients": [{"src": "127.0.0.11", "count": 4, "pipeline": 8, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "tokens": 9}, {"api": "get"}, {"path": "/v1/nowhere", "expect": [404, 405]},
  {"tokens": 3, "prompt_bytes": 50000, "prompt": "'$PROMPT'"}, {"stream": true, "usage": true, "tokens": 1000}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"tokens": 5, "repeat": 4}]}]}'
h2_on() {
	local name=$1
	case_wanted "$name" || return 0
	DRIVER="$H2_BIN/python $E2E/h2_driver.py" WEIR_OPTIONS="--ring-size 33554432" on "$@"
}
if h2_ready; then
	h2_on h2-hypercorn hypercorn_start <<<"$streams"
	secrets_stay h2-hypercorn-secrets
	! command -v nginx >/dev/null || HTTP2=1 h2_on h2-nginx nginx_start <<<"${streams//tiny-llama/weir-tiny}"
	! command -v node >/dev/null || h2_on h2-node "node_start h2" <<<"$streams"
else
	skip "$SUITE-h2" "the h2 package cannot be installed: $(tail -1 "$WORK/pip.log")"
fi

blind blind-go caddy caddy Go
blind blind-rustls granian "$H2_BIN/granian" rustls
blind blind-boringssl grpcio "$CACHE/grpc/bin/python" "static, stripped" # tests/e2e/grpc.sh puts it there

MODELS=${WEIR_DATA:-$ROOT/../shared/data}/models GGUF=
GGUF=$MODELS/tiny-synth.gguf
LLAMA=${WEIR_LLAMA_SERVER:-$CACHE/llama/bin/llama-server}
if [ -r "$GGUF" ] && [ -x "$LLAMA" ]; then
	on llama-chat llama_start <<'PLAN'
{"model": "tiny", "tls": true, "clients": [{"src": "127.0.0.11", "count": 5, "hangs_up": true, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "tokens": 33}, {"api": "get"}, {"tokens": 12, "prompt": "again"}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 500}]}]}
PLAN
else
	skip "$SUITE-llama" "no llama-server ($LLAMA) or no model ($GGUF)"
fi

suite_end
