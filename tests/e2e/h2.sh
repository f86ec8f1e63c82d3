#!/usr/bin/env bash
# HTTP/2 in clear text: Caddy and nginx in front, hypercorn and granian as servers, by prior knowledge and by upgrade; curl,
# h2load and a client of the h2 package, which is installed once into the cache, as the Python servers are.
. "$(dirname "$0")/lib.sh"
suite_needs ss curl

h2_ready
# Counts of HTTP/2 are made of what goes through the ring: one that holds the burst.
WEIR_OPTIONS="--ring-size 33554432"
DRIVER="$H2_BIN/python $E2E/h2_driver.py"

FRONT_PID=
front_end() { end_pid "$FRONT_PID"; FRONT_PID=; }

caddy_start() { # caddy_start UPSTREAM [VERSION]: h1 and h2c on PORT
	port_new
	cat >"$WORK/Caddyfile" <<-CONF
		{
			admin off
			auto_https off
			servers {
				protocols h1 h2c
			}
		}
		http://:$PORT {
			bind 127.0.0.1
			reverse_proxy $1 {
				flush_interval -1
				transport http {
					compression off
					${2:+versions $2}
				}
			}
		}
	CONF
	XDG_DATA_HOME=$WORK XDG_CONFIG_HOME=$WORK caddy run --config "$WORK/Caddyfile" --adapter caddyfile >"$WORK/caddy.log" 2>&1 &
	FRONT_PID=$!
	PIDS+=("$FRONT_PID")
	wait_for 10 curl -s -o /dev/null "http://127.0.0.1:$PORT/health"
}

nginx_start() { # nginx_start UPSTREAM: nothing but h2c on PORT
	port_new
	mkdir -p "$WORK/nginx"
	cat >"$WORK/nginx.conf" <<-CONF
		worker_processes 2; daemon off; pid $WORK/nginx/pid; error_log $WORK/nginx/error.log; user root;
		events { worker_connections 4096; }
		http {
		  access_log off; keepalive_requests 100000000; client_body_temp_path $WORK/nginx/body; proxy_temp_path $WORK/nginx/proxy;
		  fastcgi_temp_path $WORK/nginx/f; uwsgi_temp_path $WORK/nginx/u; scgi_temp_path $WORK/nginx/s;
		  server { listen 127.0.0.1:$PORT http2; default_type application/json; http2_max_concurrent_streams 200;
		    location = /canned { return 200 '$CANNED'; }
		    location / { proxy_pass http://$1; proxy_http_version 1.1; proxy_buffering off; client_max_body_size 64m; } }
		}
	CONF
	nginx -c "$WORK/nginx.conf" -p "$WORK/nginx" 2>"$WORK/nginx.log" &
	FRONT_PID=$!
	PIDS+=("$FRONT_PID")
	wait_for 10 curl -sf -o /dev/null --http2-prior-knowledge "http://127.0.0.1:$PORT/canned"
}
CANNED='{"id":"x","object":"chat.completion","model":"canned","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2}}}'

python_start() { # python_start hypercorn|granian: the app of asgi_app.py, h2c on PORT
	local command
	port_new
	case $1 in
	hypercorn) command=(hypercorn -b "127.0.0.1:$PORT" --log-level warning --keep-alive 600 asgi_app:app) ;;
	granian) command=(granian --interface asgi --host 127.0.0.1 --port "$PORT" --http 2 --log-level warning asgi_app:app) ;;
	esac
	(cd "$E2E" && PYTHONDONTWRITEBYTECODE=1 exec "$H2_BIN/${command[0]}" "${command[@]:1}") >"$WORK/python.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 20 curl -sf -o /dev/null --http2-prior-knowledge "http://127.0.0.1:$PORT/health"
}

have() { # have CASE caddy|nginx|driver|hypercorn...
	local name=$1 what
	shift
	case_wanted "$name" || return 1
	for what in "$@"; do
		case $what in
		driver | hypercorn | granian) [ -x "$H2_BIN/python" ] || { skip "$name" "the h2 package cannot be installed: $(tail -1 "$WORK/pip.log" 2>/dev/null)"; return 1; } ;;
		*) command -v "$what" >/dev/null || { skip "$name" "$what is not installed"; return 1; } ;;
		esac
	done
}

SHAPES='{"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "usage": true, "continuous": true, "tokens": 31},
  {"stream": true, "tokens": 9}, {"api": "get"}, {"body": "{bad", "expect": 400}, {"path": "/v1/nowhere", "expect": [404, 405]},
  {"tokens": 3, "prompt_bytes": 50000}, {"tokens": 8, "chunked": 1}, {"tokens": 3, "split": 7}'
PLAN="{\"clients\": [{\"src\": \"127.0.0.11\", \"count\": 10, \"requests\": [$SHAPES]},
  {\"src\": \"127.0.0.31\", \"count\": 5, \"pipeline\": 10, \"loops\": 3, \"requests\": [$SHAPES]},
  {\"src\": \"127.0.0.41\", \"keepalive\": false, \"requests\": [{\"tokens\": 5, \"repeat\": 5}]}]}"

# through FRONT NAME [COMPARE OPTIONS] <PLAN: exchanges by way of a front, metered at it.
through() {
	local front=$1 name=$2 upstream plan
	shift 2
	plan=$(cat)
	have "$name" "$front" driver || return 0
	modelserver_start || { fail "$name" "modelserver did not start"; return; }
	upstream=127.0.0.1:$PORT
	"${front}_start" "$upstream" || { fail "$name" "$front did not start: $(tail -1 "$WORK/$front.log")"; server_end; return; }
	case_run "$name" "$PORT" "$@" <<<"$plan"
	front_end
	server_end
}
for front in caddy nginx; do
	through $front $front-shapes <<<"$PLAN"
	through $front $front-long <<<'{"clients": [{"src": "127.0.0.11", "requests": [{"stream": true, "usage": true, "tokens": 100000}]},
		{"src": "127.0.0.12", "requests": [{"stream": true, "usage": true, "continuous": true, "tokens": 5000}]}]}'
	through $front $front-many --no-records <<<'{"clients": [{"src": "127.0.0.11", "count": 20, "parallel": 10, "pipeline": 20, "requests": [{"stream": true, "usage": true, "tokens": 6, "repeat": 40}]}]}'
done
# The stream ends, the connection goes on: a reset counts, and what runs beside it is none the worse.
through caddy caddy-resets --aborted-more <<<'{"clients": [{"src": "127.0.0.11", "count": 4, "requests": [{"stream": true, "usage": true, "tokens": 3000, "abort_after": 5},
	{"stream": true, "usage": true, "tokens": 20}, {"tokens": 5}]}]}'

# served_by SERVER NAME <PLAN: a Python server that speaks HTTP/2 itself.
served_by() {
	local server=$1 name=$2 plan
	shift 2
	plan=$(cat)
	have "$name" "$server" || return 0
	python_start "$server" || { fail "$name" "$server did not start: $(tail -1 "$WORK/python.log")"; return; }
	case_run "$name" "$PORT" "$@" <<<"$plan"
	server_end
}
for server in hypercorn granian; do
	served_by $server $server-shapes <<<"${PLAN/\{/\{\"model\": \"tiny-llama\", }"
	served_by $server $server-gzip --fields requests,status_2xx,status_4xx,status_5xx <<<'{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
		{"gzip": true, "tokens": 500, "repeat": 3}, {"tokens": 5}]}]}'
done

# Caddy speaks HTTP/2 to its upstream: the hop behind it is metered, on a connection that is older than weir.
upstream_h2() {
	local name=caddy-upstream behind
	have $name caddy hypercorn || return 0
	python_start hypercorn || { fail $name "hypercorn did not start: $(tail -1 "$WORK/python.log")"; return; }
	behind=$PORT
	caddy_start "127.0.0.1:$behind" "h2c 2" || { fail $name "caddy did not start: $(tail -1 "$WORK/caddy.log")"; server_end; return; }
	if ! weir_start --port "$behind"; then
		fail $name "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! drive "127.0.0.1:$PORT" <<<'{"model": "tiny-llama", "clients": [{"pipeline": 5, "requests": [{"tokens": 12, "repeat": 10}, {"stream": true, "usage": true, "tokens": 57, "repeat": 10}]}]}'; then
		fail $name "$(drive_errors)"
		weir_stop >/dev/null
	else
		case_compare $name
	fi
	front_end
	server_end
}
upstream_h2

# curl asks for HTTP/2 in both ways; one of three comes as HTTP/1.
with_curl() {
	local name=curl upstream how out body='{"model":"weir-tiny","messages":[{"role":"user","content":"why"}],"max_tokens":20,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}'
	have $name caddy || return 0
	modelserver_start || { fail $name "modelserver did not start"; return; }
	upstream=127.0.0.1:$PORT
	caddy_start "$upstream" || { fail $name "caddy did not start: $(tail -1 "$WORK/caddy.log")"; server_end; return; }
	weir_start --port "$PORT" || { fail $name "weir did not attach: $(tail -2 "$WEIR_LOG")"; return; }
	for how in --http2-prior-knowledge --http2 --http1.1; do
		out=$(curl -s $how -o /dev/null -w '%{http_version} %{response_code}' -H 'content-type: application/json' -d "$body" "http://127.0.0.1:$PORT/v1/chat/completions")
		[ "$out" = "2 200" ] || [ "$how $out" = "--http1.1 1.1 200" ] || { fail $name "curl $how: $out"; weir_stop >/dev/null; return; }
	done
	settle
	if ! out=$(weir_clients | jq -se '.[0] | .requests == 3 and .status_2xx == 3 and .completion_tokens == 60 and .open == 0 and .aborted == 0'); then
		fail $name "$(weir_clients)"
		weir_stop >/dev/null
	elif ! weir_stop >"$WORK/stop"; then
		fail $name "$(cat "$WORK/stop")"
	elif ! jq -se 'length == 3 and all(.path == "/v1/chat/completions" and .completion_tokens == 20 and .stream and .ttft_ms <= .duration_ms) and all(.[:2][]; .finish_reason == "length")' "$RECORDS" >/dev/null; then
		fail $name "$(cat "$RECORDS")"
	else
		ok $name
	fi
	front_end
	server_end
}
with_curl

# flood NAME CONNECTIONS STREAMS REQUESTS RING: what h2load was answered is what was counted; where the ring could not hold it, that is said.
flood() {
	local name=$1 why= done_ n
	have "$name" nginx h2load || return 0
	nginx_start 127.0.0.1:1 || { fail "$name" "nginx did not start: $(tail -1 "$WORK/nginx.log")"; return; }
	weir_start --port "$PORT" --ring-size "$5" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; front_end; return; }
	h2load -n "$4" -c "$2" -m "$3" -t 1 "http://127.0.0.1:$PORT/canned" >"$WORK/h2load.txt" 2>&1
	done_=$(sed -n 's/^status codes: \([0-9]*\) 2xx.*/\1/p' "$WORK/h2load.txt")
	settle
	n=$(stat_of kernel.http2_bytes_lost)
	weir_clients >"$WORK/clients.jsonl"
	if [ "${done_:-0}" -ne "$4" ]; then
		why="h2load: $(tail -3 "$WORK/h2load.txt")"
	elif [ "$n" -eq 0 ]; then
		jq -se --argjson n "$4" '.[0] | .requests == $n and .status_2xx == $n and .prompt_tokens == 7 * $n and .completion_tokens == 3 * $n and .open == 0' \
			"$WORK/clients.jsonl" >/dev/null || why="$(cat "$WORK/clients.jsonl")"
	else
		# never more than there was, and what is missing has its bytes in the loss
		jq -se --argjson n "$4" '.[0] | .requests <= $n and .status_2xx <= $n and .completion_tokens <= 3 * $n and .requests > 0' "$WORK/clients.jsonl" >/dev/null ||
			why="lost $n bytes: $(cat "$WORK/clients.jsonl")"
	fi
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	[ -n "$why" ] || jq -se --slurpfile c "$WORK/clients.jsonl" 'map(.weight // 1) | add == ($c[0].requests)' "$RECORDS" >/dev/null ||
		why="records and lost lines stand for $(jq -s 'map(.weight // 1) | add' "$RECORDS") requests, counted were $(jq .requests "$WORK/clients.jsonl")"
	[ "$n" -eq 0 ] || [ -n "$why" ] || grep -q "http2_bytes_lost $n" "$WEIR_LOG" || why="the loss is not told: $(tail -1 "$WEIR_LOG")"
	if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	front_end
}
flood h2load-200x100 200 100 40000 8388608
flood h2load-small-ring 50 100 40000 65536

suite_end
