#!/usr/bin/env bash
# nginx as a plain upstream with canned answers: deferred accept, keep-alive and close, and wrk, which hangs up in the middle.
. "$(dirname "$0")/lib.sh"
suite_needs ss nginx wrk curl

USAGE='{"id":"x","object":"chat.completion","model":"canned","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2}}}'

nginx_start() { # nginx_start "LISTEN OPTIONS": sets PORT, STATUS_PORT, SERVER_PID
	port_new
	STATUS_PORT=$PORT
	port_new
	mkdir -p "$WORK/nginx"
	cat >"$WORK/nginx.conf" <<-CONF
		worker_processes 2; daemon off; pid $WORK/nginx/pid; error_log $WORK/nginx/error.log; user root;
		events { worker_connections 2048; }
		http {
		  access_log off; keepalive_requests 100000000; client_body_temp_path $WORK/nginx/body; proxy_temp_path $WORK/nginx/proxy;
		  fastcgi_temp_path $WORK/nginx/f; uwsgi_temp_path $WORK/nginx/u; scgi_temp_path $WORK/nginx/s;
		  server { listen 127.0.0.1:$PORT $1; default_type application/json;
		    location = /v1/chat/completions { return 200 '$USAGE'; }
		    location = /v1/embeddings { return 429 '{"error":{"message":"slow down","type":"rate_limit"}}'; }
		    location = /health { return 200 '{}'; }
		    location / { return 404 '{"error":"no"}'; } }
		  server { listen 127.0.0.1:$STATUS_PORT; location / { stub_status; } }
		}
	CONF
	nginx -c "$WORK/nginx.conf" -p "$WORK/nginx" 2>"$WORK/nginx.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 10 curl -sf -o /dev/null "http://127.0.0.1:$STATUS_PORT/"
	STATUS_READS=$(nginx_requests)
}

nginx_requests() { curl -s "http://127.0.0.1:$STATUS_PORT/" | awk 'NR==3{print $3}'; }

PLAN='{"model": "canned", "clients": [
  {"src": "127.0.0.11", "count": 10, "requests": [{"loose": true, "repeat": 20}, {"api": "get"}, {"api": "embedding", "expect": 429}, {"api": "get", "path": "/x", "expect": 404}]},
  {"src": "127.0.0.31", "count": 5, "keepalive": false, "requests": [{"loose": true, "repeat": 20}, {"api": "embedding", "expect": 429}]},
  {"src": "127.0.0.41", "pipeline": 4, "requests": [{"loose": true, "repeat": 40}]}]}'

# exact NAME "LISTEN OPTIONS": driver's count, nginx's own count and weir's are one.
exact() {
	local n
	case_wanted "$1" || return 0
	nginx_start "$2" || { fail "$1" "nginx did not start: $(tail -1 "$WORK/nginx.log")"; return; }
	if ! weir_start --port "$PORT"; then
		fail "$1" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! drive "127.0.0.1:$PORT" <<<"$PLAN"; then
		fail "$1" "$(drive_errors)"
		weir_stop >/dev/null
	else
		n=$(($(nginx_requests) - STATUS_READS - 1))
		if [ "$n" -ne "$(jq .total.requests "$TOLD")" ]; then
			fail "$1" "nginx counted $n requests, the driver $(jq .total.requests "$TOLD")"
			weir_stop >/dev/null
		else
			case_compare "$1"
		fi
	fi
	server_end
}
exact keepalive ""
software_is keepalive 'nginx/[0-9.]+'
exact deferred deferred
exact deferred-reuseport "deferred reuseport"

# wrk hangs up with requests in flight: heads on the wire >= nginx's count >= answers, and the tokens are those of the answers.
hangup() {
	local name=$1 n why=
	case_wanted "$name" || return 0
	nginx_start "$2" || { fail "$name" "nginx did not start"; return; }
	weir_start --port "$PORT" --ring-size 65536 || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	cat >"$WORK/post.lua" <<-'LUA'
		wrk.method = "POST"; wrk.path = "/v1/chat/completions"; wrk.headers["Content-Type"] = "application/json"
		wrk.body = '{"model":"canned","messages":[{"role":"user","content":"a"}]}'
	LUA
	wrk -t1 -c32 -d3 ${3:-} -s "$WORK/post.lua" "http://127.0.0.1:$PORT" >"$WORK/wrk.txt" 2>&1
	settle
	n=$(($(nginx_requests) - STATUS_READS - 1))
	weir_clients >"$WORK/clients.jsonl"
	jq -se --argjson n "$n" 'map(select(.client_ip == "127.0.0.1")) | .[0] | .requests >= $n and $n >= .status_2xx and .requests - .status_2xx <= 32
		and .status_2xx > 1000 and .prompt_tokens == 7 * .status_2xx and .completion_tokens == 3 * .status_2xx
		and .cached_tokens == 2 * .status_2xx and .open == 0 and .status_4xx + .status_5xx == 0' "$WORK/clients.jsonl" >/dev/null ||
		why="nginx counted $n; weir: $(cat "$WORK/clients.jsonl")"
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	# what has no record stands in the lost lines: nothing is missing
	[ -n "$why" ] || jq -se --slurpfile c "$WORK/clients.jsonl" 'map(.weight // 1) | add == ($c[0].requests)' "$RECORDS" >/dev/null ||
		why="records and lost lines stand for $(jq -s 'map(.weight // 1) | add' "$RECORDS") requests, counted were $(jq .requests "$WORK/clients.jsonl")"
	# and they go by the same name as the records
	[ -n "$why" ] || jq -se 'map(select(.lost) | .server) | unique | all(test("^[^ ]+ nginx/[0-9.]+( [^ ]+=[^ ]+)?$"))' "$RECORDS" >/dev/null ||
		why="lost lines of $(jq -c 'select(.lost) | .server' "$RECORDS" | sort -u | tr '\n' ' ')"
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	server_end
}
hangup wrk ""
hangup wrk-deferred deferred
hangup wrk-close deferred "-H Connection:close"

suite_end
