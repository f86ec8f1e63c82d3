#!/usr/bin/env bash
# A server behind a Unix socket: a real uvicorn (asyncio + h11; uvloop + httptools), behind a real nginx and asked directly. Tokens per
# client are exact, by the socket's user and by the word of nginx; a request that passes both is billed once.
. "$(dirname "$0")/lib.sh"
suite_needs ss nginx curl jq "$PYTHON"

needs_uvicorn
if "$WEIR" check --json | jq -e '.hooks[]? | select(.hook == "unix_sockets" and .state == "missing")' >"$WORK/missing"; then
	skip "$SUITE" "this kernel shows no bytes of Unix sockets"
	suite_end
fi
SOCKET=$WORK/model.sock

uvicorn_start() { # uvicorn_start OPTION...
	rm -f "$SOCKET"
	"$VENV/bin/python" -m uvicorn --app-dir "$E2E" --uds "$SOCKET" --log-level warning --no-access-log "$@" asgi_app:app >"$WORK/uvicorn.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 20 curl -sf -o /dev/null --unix-socket "$SOCKET" http://model/health
}

nginx_start() { gateway_start "unix:$SOCKET" 'client_max_body_size 64m; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'; }

# What the driver was told, by the true client; and its records. FIELDS, LAX: as compare.py has them.
told() {
	local out
	settle
	"$WEIR" clients --by client --json --socket "$WORK/sock" >"$WORK/by.jsonl" || why="$why; clients --by"
	# shellcheck disable=SC2086
	out=$("$PYTHON" "$E2E/compare.py" --fields requests,status_2xx,prompt_tokens,completion_tokens,cached_tokens,aborted ${LAX:-} "$TOLD" "$WORK/by.jsonl" 2>&1) || why="$why; accounts: $out"
	weir_clients >"$WORK/clients.jsonl"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	[ -n "${LAX:-}" ] || out=$("$PYTHON" "$E2E/compare.py" --records "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
}
end() { if [ -n "$why" ]; then fail "$1" "${why#; }"; else ok "$1"; fi; }

# behind NAME "UVICORN OPTIONS" <PLAN: all of it through nginx, which is believed.
behind() {
	local name=$1 options=$2 plan why=
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	uvicorn_start $options && nginx_start || { fail "$name" "no server: $(tail -1 "$WORK/uvicorn.log" "$WORK/nginx.log")"; return; }
	if ! weir_start --tls off --unix "$SOCKET" --trusted-proxy unix: --ring-size 16777216; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		drive "127.0.0.1:$GATEWAY" <<<"$plan" || why=$(drive_errors)
		told
		jq -se --arg s "unix:$SOCKET" 'length == 1 and .[0].server == $s and .[0].client_ip == "uid:0" and .[0].open == 0 and .[0].lost == 0' "$WORK/clients.jsonl" >/dev/null ||
			why="$why; counters: $(cat "$WORK/clients.jsonl")"
		jq -se --arg s "unix:$SOCKET" 'all(.server | split(" ")[0] == $s)' "$RECORDS" >/dev/null || why="$why; servers $(jq -r .server "$RECORDS" | sort -u)"
		end "$name"
	fi
	end_pid "$GATEWAY_PID"
	server_end
}

SHAPES='{"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "usage": true, "continuous": true, "tokens": 31}, {"stream": true, "tokens": 9},
  {"api": "get"}, {"body": "{bad", "expect": 400}, {"tokens": 3, "prompt_bytes": 200000}, {"tokens": 8, "extra": {"style": "spaced"}}'
PLAN="{\"model\": \"tiny-llama\", \"clients\": [{\"src\": \"127.0.0.11\", \"count\": 8, \"requests\": [$SHAPES]},
  {\"src\": \"127.0.0.31\", \"count\": 2, \"keepalive\": false, \"loops\": 3, \"requests\": [{\"tokens\": 12}, {\"stream\": true, \"usage\": true, \"tokens\": 20}]}]}"
behind h11 "--http h11 --loop asyncio" <<<"$PLAN"
behind uvloop "--http httptools --loop uvloop" <<<"${PLAN%]\}}, {\"src\": \"127.0.0.51\", \"requests\": [{\"stream\": true, \"usage\": true, \"tokens\": 20000}]}]}"
LAX=--aborted-more behind aborted "--http httptools --loop uvloop" <<<'{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 4, "keepalive": false, "requests": [
  {"stream": true, "usage": true, "tokens": 3000, "abort_after": 5}]}, {"src": "127.0.0.21", "requests": [{"tokens": 9, "repeat": 3}]}]}'

# nginx's port is watched as well: what it passes on is an inner hop, and on nobody's bill twice.
billed() {
	local name=billed-once why= n
	case_wanted "$name" || return 0
	uvicorn_start && nginx_start || { fail "$name" "no server: $(tail -1 "$WORK/uvicorn.log" "$WORK/nginx.log")"; return; }
	if ! weir_start --tls off --unix "$SOCKET" --port "$GATEWAY"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		drive "127.0.0.1:$GATEWAY" <<<"$PLAN" || why=$(drive_errors)
		told
		n=$(jq .total.requests "$TOLD")
		grep -q "inner hops: $n requests" "$WEIR_LOG" || why="$why; want $n inner hops: $(grep -i inner "$WEIR_LOG")"
		grep -q "weir: $n requests" "$WEIR_LOG" || why="$why; summary $(grep ' requests, .* clients' "$WEIR_LOG")"
		end "$name"
	fi
	end_pid "$GATEWAY_PID"
	server_end
}
billed

# Clients that connect to the socket themselves, told apart by their users; one peeks before it reads, one leaves in the middle.
direct() {
	local name=direct why= body='{"model":"tiny-llama","messages":[{"role":"user","content":"why"}],"max_tokens":40,"stream":true,"stream_options":{"include_usage":true}}' i
	case_wanted "$name" || return 0
	uvicorn_start || { fail "$name" "no server: $(tail -1 "$WORK/uvicorn.log")"; return; }
	if ! weir_start --tls off --unix "$SOCKET"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		for i in 1 2 3; do
			curl -sf -o /dev/null --unix-socket "$SOCKET" -H 'content-type: application/json' -d "$body" http://model/v1/chat/completions || why="$why; curl"
			setpriv --reuid 65534 --regid 65534 --clear-groups curl -sf -o /dev/null --unix-socket "$SOCKET" -H 'content-type: application/json' -d "$body" http://model/v1/chat/completions || why="$why; curl as nobody"
		done
		"$PYTHON" - "$SOCKET" "$body" <<'PY' || why="$why; the client that peeks"
import socket, sys
body = sys.argv[2].encode()
ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
for at in range(0, len(ask), 7):
    s.sendall(ask[at:at + 7])
got = b""
while True:
    peeked = s.recv(700, socket.MSG_PEEK)
    s.recv(100, socket.MSG_PEEK)
    b = s.recv(333)
    assert peeked[:len(b)] == b[:len(peeked)]
    if not b:
        break
    got += b
assert b"completion_tokens" in got and got.endswith(b"0\r\n\r\n")
s = socket.socket(socket.AF_UNIX) # reads a little and goes
s.connect(sys.argv[1])
s.sendall(ask.replace(b'"max_tokens":40', b'"max_tokens":90000').replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % (len(body) + 3)))
s.recv(2000)
s.close()
PY
		sleep 1
		weir_clients >"$WORK/clients.jsonl"
		jq -se 'sort_by(.client_ip) | length == 2 and (.[0] | .client_ip == "uid:0" and .requests == 5 and .status_2xx == 5 and .completion_tokens == 160 and .aborted == 1 and .open == 0) and
			(.[1] | .client_ip == "uid:65534" and .requests == 3 and .completion_tokens == 120 and .aborted == 0 and .open == 0)' "$WORK/clients.jsonl" >/dev/null ||
			why="$why; counters: $(cat "$WORK/clients.jsonl")"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		jq -se 'length == 8 and (map(select(.aborted | not)) | all(.completion_tokens == 40 and .finish_reason != null and .ttft_ms <= .duration_ms))' "$RECORDS" >/dev/null ||
			why="$why; records: $(jq -c . "$RECORDS" | head -3)"
		end "$name"
	fi
	server_end
}
direct

suite_end
