#!/usr/bin/env bash
# A real uvicorn on both of its byte paths (asyncio + h11; uvloop + httptools), with an app that speaks as vLLM, SGLang and
# TensorRT-LLM do, and with several workers. Installed once into the cache.
. "$(dirname "$0")/lib.sh"
suite_needs ss "$PYTHON"

needs_uvicorn

uvicorn_start() { # uvicorn_start OPTION...: sets PORT and SERVER_PID
	port_new
	"$VENV/bin/python" -m uvicorn --app-dir "$E2E" --host 127.0.0.1 --port "$PORT" --log-level warning --no-access-log "$@" asgi_app:app \
		>"$WORK/uvicorn.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 20 curl -sf -o /dev/null "http://127.0.0.1:$PORT/health"
}

# on NAME "UVICORN OPTIONS" [COMPARE OPTIONS...] <PLAN
on() {
	local name=$1 options=$2 plan
	shift 2
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	uvicorn_start $options || { fail "$name" "uvicorn did not start: $(tail -1 "$WORK/uvicorn.log")"; return; }
	case_run "$name" "$PORT" "$@" <<<"$plan"
	server_end
}

h11="--http h11 --loop asyncio" fast="--http httptools --loop uvloop"
for path in h11 fast; do
	on "$path-shapes" "${!path}" <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 10, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "usage": true, "continuous": true, "tokens": 31},
  {"stream": true, "tokens": 9}, {"api": "get"}, {"body": "{bad", "expect": 400}, {"path": "/v1/nowhere", "expect": 404},
  {"tokens": 3, "prompt_bytes": 50000}, {"stream": true, "usage": true, "tokens": 8, "extra": {"style": "sglang"}},
  {"stream": true, "tokens": 8, "extra": {"style": "sglang"}}, {"tokens": 8, "extra": {"style": "spaced"}},
  {"stream": true, "usage": true, "tokens": 8, "extra": {"style": "spaced"}}, {"stream": true, "usage": true, "tokens": 8, "extra": {"style": "trt"}}]},
  {"src": "127.0.0.31", "count": 4, "keepalive": false, "loops": 3, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 20}]},
  {"src": "127.0.0.41", "pipeline": 3, "requests": [{"tokens": 12, "repeat": 6}, {"stream": true, "usage": true, "tokens": 20, "repeat": 3}]}]}
PLAN
	software_is "$path-shapes" ""
	on "$path-apis" "${!path}" <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"api": "responses", "tokens": 12}, {"api": "responses", "stream": true, "tokens": 30}, {"api": "messages", "tokens": 12},
  {"api": "messages", "stream": true, "tokens": 30}]}]}
PLAN
	on "$path-faults-in-streams" "${!path}" <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"stream": true, "usage": true, "tokens": 20, "loose": true, "extra": {"fault": true}, "repeat": 3}, {"stream": true, "usage": true, "tokens": 5}]}]}
PLAN
	# The kernel cannot read these bodies: what they report is known to the records.
	on "$path-gzip" "${!path}" --fields requests,status_2xx,status_4xx,status_5xx <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [{"gzip": true, "tokens": 500, "repeat": 3}, {"tokens": 5},
  {"gzip": true, "body": "{", "expect": 400}]}]}
PLAN
	on "$path-long" "${!path}" <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "requests": [{"stream": true, "usage": true, "tokens": 100000}]},
  {"src": "127.0.0.12", "requests": [{"stream": true, "usage": true, "continuous": true, "tokens": 5000}]}]}
PLAN
done
on workers "$fast --workers 2" <<'PLAN'
{"model": "tiny-llama", "clients": [{"src": "127.0.0.11", "count": 8, "parallel": 2, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 57, "repeat": 3}]}]}
PLAN

suite_end
