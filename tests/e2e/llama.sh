#!/usr/bin/env bash
# A real llama.cpp. Looked for: $WEIR_LLAMA_SERVER, llama-server in the cache or the path, llama-cpp-python[server] in the cache. With
# WEIR_LLAMA_INSTALL=1 (make test-servers) llama-server is built into the cache where there is none, which takes some ten minutes.
# Models: $WEIR_DATA/models.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers/lib.sh"
suite_needs ss curl jq

MODELS=${WEIR_DATA:-$ROOT/../shared/data}/models
GGUF=$MODELS/tiny-synth.gguf
VENV=$CACHE/llama-cpp-python
if [ ! -r "$GGUF" ]; then
	skip "$SUITE" "no model: $GGUF (set WEIR_DATA)"
	suite_end
fi

llama_find() { # sets LLAMA
	local candidate
	for candidate in "${WEIR_LLAMA_SERVER:-}" "$CACHE/llama/bin/llama-server" "$(command -v llama-server)"; do
		[ -n "$candidate" ] && [ -x "$candidate" ] && "$candidate" --version >/dev/null 2>&1 && LLAMA=$candidate && return
	done
	LLAMA=
}
llama_find
if [ -z "$LLAMA" ] && [ "${WEIR_LLAMA_INSTALL:-0}" = 1 ]; then
	server_install llama "${WEIR_LLAMA_INSTALL_S:-1500}" || suite_end
	llama_find
fi

llama_start() { # llama_start OPTION...
	[ -n "${SAME_PORT:-}" ] || port_new
	"$LLAMA" -m "$GGUF" --alias tiny --host 127.0.0.1 --port "$PORT" -c 65536 -np 4 -t 1 --offline "$@" >"$WORK/llama.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 60 curl -skf -o /dev/null "http${TLS:+s}://127.0.0.1:$PORT/health"
}

python_start() {
	port_new
	"$VENV/bin/python" -m llama_cpp.server --model "$GGUF" --model_alias tiny --host 127.0.0.1 --port "$PORT" --n_ctx 4096 >"$WORK/llama.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 60 curl -sf -o /dev/null "http://127.0.0.1:$PORT/v1/models"
}

# Streams that clients break off: what the engine computes for them (their prompts most of all; it stops writing at once) is told to nobody.
# Five minutes of what is usual come first.
unbilled() {
	local name=unbilled why=
	case_wanted "$name" || return 0
	[ -n "${WEIR_TEST_SERVERS:-}" ] || { skip "$name" "takes nine minutes, opt-in: make test-servers"; return; }
	llama_start || { fail "$name" "the server did not start: $(tail -1 "$WORK/llama.log")"; return; }
	weir_start --port "$PORT" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	if ! grep -q "counting what llama.cpp computes for port $PORT" "$WEIR_LOG"; then
		skip "$name" "$LLAMA does not tell where it computes"
	else
		DRIVE_TIMEOUT=120 drive "127.0.0.1:$PORT" <<<'{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "keepalive": false, "rate": 1, "duration": 340,
			"requests": [{"tokens": 100}, {"stream": true, "usage": true, "tokens": 100}]}]}' || why=$(drive_errors)
		[ ! -s "$WEIR_OUT" ] || why="$why; told before anything happened: $(cat "$WEIR_OUT")"
		drive "127.0.0.1:$PORT" <<<'{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 2, "keepalive": false, "rate": 0.7, "duration": 150,
			"requests": [{"stream": true, "usage": true, "prompt_bytes": 3000, "tokens": 8000, "abort_after": 1}]}]}' || why="$why; $(drive_errors)"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		jq -se --arg p ":$PORT" 'map(select(.class == "unbilled_compute" and .event == "open" and .scope.kind == "server" and (.scope.value | contains($p)))) | length == 1' \
			"$WEIR_OUT" >/dev/null || why="$why; events: $(jq -c '[.event, .class, .scope, .summary]' "$WEIR_OUT")"
	fi
	[ -z "$WEIR_PID" ] || weir_stop >/dev/null
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
	server_end
}

# on NAME STARTER "OPTIONS" [COMPARE OPTIONS...] <PLAN
on() {
	local name=$1 starter=$2 options=$3 plan
	shift 3
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	$starter $options || { fail "$name" "the server did not start: $(tail -1 "$WORK/llama.log")"; return; }
	case_run "$name" "$PORT" "$@" <<<"$plan"
	server_end
}

if [ -n "$LLAMA" ]; then
	# llama-server closes after each stream although it announced keep-alive: hence "hangs_up".
	on chat llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 5, "hangs_up": true, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "tokens": 33}, {"tokens": 12, "prompt": "again"},
  {"tokens": 12, "prompt": "again"}, {"stream": true, "usage": true, "tokens": 64, "prompt": "again"}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 500}]}]}
PLAN
	software_is chat 'llama\.cpp/b[0-9]+-[0-9a-z]+'
	on completions llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "completion", "tokens": 9}, {"api": "completion", "stream": true, "usage": true, "tokens": 40},
  {"api": "completion", "stream": true, "tokens": 40}]}]}
PLAN
	on native llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "native", "tokens": 9, "prompt": "The river"}, {"api": "native", "stream": true, "tokens": 40, "prompt": "The river rises"}]}]}
PLAN
	# Several prompts at once: an array of answers, whose counts add up.
	on batches llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "native", "tokens": 9, "loose": true, "extra": {"prompt": ["The river", "rises in spring", "and falls"]}},
  {"api": "native", "tokens": 5, "prompt": "The river"}, {"api": "native", "tokens": 9, "loose": true, "extra": {"prompt": ["The river", "The river"]}}]}]}
PLAN
	on responses llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "responses", "tokens": 9}, {"api": "responses", "stream": true, "tokens": 40}]}]}
PLAN
	on messages llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "messages", "tokens": 9}, {"api": "messages", "stream": true, "tokens": 40}, {"api": "messages", "stream": true, "tokens": 8}]}]}
PLAN
	on errors llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"body": "{bad", "expect": [400, 500]}, {"body": "{\"model\":\"tiny\"}", "expect": [400, 500]}, {"api": "get", "path": "/nowhere", "expect": 404},
  {"stream": true, "usage": true, "prompt_bytes": 120000, "tokens": 5, "expect": 400}, {"api": "get"}, {"tokens": 4}]}]}
PLAN
	on embeddings llama_start "--embeddings --pooling mean" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [{"api": "embedding", "repeat": 3}]}]}
PLAN
	on rerank llama_start "--reranking" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"api": "embedding", "path": "/v1/rerank", "extra": {"query": "high water", "documents": ["The river rises", "The mill is dry"]}, "repeat": 2},
  {"api": "embedding", "path": "/reranking", "extra": {"query": "high water", "documents": ["The river rises"]}}]}]}
PLAN
	# As it is run: found by itself, keys, TLS, a proxy in front, restarts.
	keys="--api-key sk-weir-llama-one,sk-weir-llama-two" software='llama\.cpp/b[0-9]+-[0-9a-z]+'
	if case_wanted auto || case_wanted nginx; then
		# shellcheck disable=SC2086
		llama_start $keys || fail auto "the server did not start: $(tail -1 "$WORK/llama.log")"
		SAYS="watching port $PORT \(llama\.cpp, pid $SERVER_PID" named auto "$software" tiny sk-weir-llama-one sk-weir-llama-two -- --auto
		if command -v nginx >/dev/null; then behind_nginx nginx "$software" tiny sk-weir-llama-one sk-weir-llama-two; else skip nginx "nginx is not installed"; fi
		server_end
	fi
	if case_wanted tls || case_wanted tls-restart; then
		TLS=true
		certificate_make || fail tls "no certificate: $(tail -1 "$WORK/openssl.log")"
		# shellcheck disable=SC2086
		llama_start $keys --ssl-key-file "$TLS_KEY" --ssl-cert-file "$TLS_CERT" || fail tls "the server did not start: $(tail -1 "$WORK/llama.log")"
		SAYS='metering TLS in .*libssl' named tls "$software" tiny sk-weir-llama-one sk-weir-llama-two -- --auto
		# shellcheck disable=SC2086
		restarted tls-restart llama.cpp llama_start $keys --ssl-key-file "$TLS_KEY" --ssl-cert-file "$TLS_CERT" <<'PLAN'
{"model": "tiny", "tls": true, "key": "sk-weir-llama-one", "clients": [{"src": "127.0.0.11", "count": 4, "hangs_up": true, "requests": [
  {"tokens": 12, "repeat": 2}, {"stream": true, "usage": true, "tokens": 57, "repeat": 2}]}]}
PLAN
		server_end
		TLS=
	fi
	unbilled
	# A file with random weights ends by itself and writes what is not UTF-8.
	if [ -r "$MODELS/tiny-rand.gguf" ]; then
		GGUF=$MODELS/tiny-rand.gguf
		on random llama_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "hangs_up": true, "requests": [
  {"stream": true, "usage": true, "tokens": 300, "natural": true, "repeat": 3}, {"tokens": 200, "natural": true, "repeat": 3}]}]}
PLAN
	fi
elif [ -x "$VENV/bin/python" ]; then
	on python-chat python_start "" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 2, "hangs_up": true, "requests": [
  {"tokens": 12, "natural": true}, {"api": "completion", "tokens": 9, "natural": true}, {"stream": true, "tokens": 20, "natural": true}]}]}
PLAN
else
	skip "$SUITE" "no llama-server: set WEIR_LLAMA_SERVER to one, put one into $CACHE/llama/bin, or let WEIR_LLAMA_INSTALL=1 build it"
fi
suite_end
