#!/usr/bin/env bash
# A real Ollama (Go, its own runner behind it) with a tiny random model: its own counts, as clients were told, are the truth. Opt-in,
# as it takes 20 minutes to build: `make test-servers`, or WEIR_TEST_SERVERS=1 where it is in the cache. Models: $WEIR_DATA/models.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers/lib.sh"
DRIVE_TIMEOUT=${DRIVE_TIMEOUT:-240} # a server of this size answers late on a busy machine; only a hang is a failure
suite_needs ss curl "$PYTHON"
GGUF=${WEIR_DATA:-$ROOT/../shared/data}/models/tiny-rand.gguf
if [ ! -r "$GGUF" ]; then
	skip "$SUITE" "no model: $GGUF (set WEIR_DATA)"
	suite_end
fi
server_asked ollama "${WEIR_OLLAMA_INSTALL_S:-3000}" || suite_end

ollama_start() { # sets PORT and SERVER_PID
	[ -n "${SAME_PORT:-}" ] || port_new
	export HOME=$WORK/ollama OLLAMA_HOST=127.0.0.1:$PORT OLLAMA_MODELS=$WORK/ollama/models OLLAMA_NO_CLOUD=1 OLLAMA_NUM_PARALLEL=4 OLLAMA_CONTEXT_LENGTH=4096
	mkdir -p "$WORK/ollama"
	"$CACHE/ollama/bin/ollama" serve >"$WORK/ollama.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	server_up "$SERVER_PID" 60 "http://127.0.0.1:$PORT/api/version" || return 1
	printf 'FROM %s\nPARAMETER num_ctx 4096\n' "$(realpath "$GGUF")" >"$WORK/Modelfile"
	"$CACHE/ollama/bin/ollama" create tiny -f "$WORK/Modelfile" >"$WORK/create.log" 2>&1 || return 1
	# loads the model
	curl -sf -m 120 -o /dev/null "http://127.0.0.1:$PORT/api/generate" -d '{"model":"tiny","prompt":"a","stream":false,"options":{"num_predict":1}}'
}

on() { ! case_wanted "$1" || case_run "$1" "$PORT" "${@:2}"; } # NAME [COMPARE OPTIONS...] [-- RECORD OPTIONS...] <PLAN

if ! ollama_start; then
	fail "$SUITE" "ollama did not start: $(tail -3 "$WORK/ollama.log")"
	suite_end
fi

on native -- --ends <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "ollama-chat", "tokens": 12, "natural": true}, {"api": "ollama-chat", "stream": true, "tokens": 80, "natural": true, "repeat": 3},
  {"api": "ollama-generate", "tokens": 12, "natural": true}, {"api": "ollama-generate", "stream": true, "tokens": 80, "natural": true, "repeat": 3},
  {"api": "ollama-generate", "tokens": 200, "natural": true, "prompt_bytes": 900}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"api": "ollama-chat", "tokens": 12, "natural": true, "repeat": 2}, {"api": "ollama-chat", "stream": true, "tokens": 60, "natural": true, "repeat": 2}]}]}
PLAN
on openai -- --ends <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "get", "path": "/api/version"}, {"tokens": 12, "natural": true},
  {"stream": true, "usage": true, "tokens": 60, "natural": true, "repeat": 2}, {"stream": true, "tokens": 40, "natural": true},
  {"api": "completion", "tokens": 12, "natural": true}, {"api": "completion", "stream": true, "usage": true, "tokens": 60, "natural": true},
  {"api": "completion", "stream": true, "tokens": 60, "natural": true}]}]}
PLAN
software_is openai 'ollama/[0-9.]+'
on responses <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "responses", "tokens": 12, "natural": true}, {"api": "responses", "stream": true, "tokens": 60, "natural": true, "repeat": 2}]}]}
PLAN
on messages <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "messages", "tokens": 12, "natural": true}, {"api": "messages", "stream": true, "tokens": 60, "natural": true, "repeat": 2}]}]}
PLAN
on embeddings -- --ends <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"api": "ollama-embed", "repeat": 2}, {"api": "embedding", "repeat": 2},
  {"api": "ollama-embed", "extra": {"input": ["The river", "rises in spring"]}}]}]}
PLAN
on twenty-clients -- --ends <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 20, "requests": [
  {"api": "ollama-chat", "tokens": 12, "natural": true}, {"api": "ollama-generate", "stream": true, "tokens": 40, "natural": true},
  {"stream": true, "usage": true, "tokens": 40, "natural": true}]}]}
PLAN
on abort --aborted-more -- --ends <<'PLAN'
{"model": "tiny", "clients": [
  {"src": "127.0.0.11", "count": 3, "requests": [{"api": "ollama-generate", "stream": true, "tokens": 3000, "natural": true, "abort_after": 3, "repeat": 2,
    "extra": {"options": {"num_predict": 3000, "seed": 3, "logit_bias": {"1": -100}}}}, {"api": "ollama-chat", "tokens": 7, "natural": true}]},
  {"src": "127.0.0.21", "count": 2, "requests": [{"stream": true, "usage": true, "tokens": 40, "natural": true, "repeat": 2}]}]}
PLAN
ended_early abort
on errors -- --ends <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "ollama-chat", "body": "{bad", "expect": 400}, {"body": "{bad", "expect": 400}, {"api": "ollama-generate", "model": "nowhere", "expect": 404},
  {"model": "nowhere", "stream": true, "expect": 404}, {"api": "get", "path": "/nowhere", "expect": 404}, {"api": "get", "path": "/api/tags"},
  {"api": "get", "path": "/api/version"}, {"api": "get", "path": "/"}, {"api": "ollama-chat", "tokens": 4, "natural": true}]}]}
PLAN
# As it is run: found by itself, behind nginx, with its runner watched, too, ended and started again. It looks at no key, but clients send them.
SAYS="watching port $PORT \\(ollama, pid $SERVER_PID" named auto 'ollama(/[0-9.]+)?' tiny sk-weir-ollama-one sk-weir-ollama-two -- --auto
if command -v nginx >/dev/null; then behind_nginx nginx 'ollama(/[0-9.]+)?' tiny sk-weir-ollama-one sk-weir-ollama-two; else skip nginx "nginx is not installed"; fi
RUNNER=$(pgrep -P "$SERVER_PID" -af runner | sed -n 's/.* --port \([0-9]*\).*/\1/p')
double_hop runner "$PORT" "$RUNNER" <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"api": "ollama-chat", "tokens": 12, "natural": true}, {"api": "ollama-generate", "stream": true, "tokens": 40, "natural": true},
  {"tokens": 12, "natural": true}, {"stream": true, "usage": true, "tokens": 40, "natural": true}]}]}
PLAN
# Its runner is the same file, and keeps its symbols. It says how long prompts are, not how much of them its cache had.
if case_wanted engine; then
	why=
	if weir_start --port "$PORT"; then
		drive "127.0.0.1:$PORT" <<<'{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 2, "requests": [
			{"api": "ollama-generate", "tokens": 30, "natural": true, "repeat": 2}, {"api": "ollama-chat", "stream": true, "tokens": 30, "natural": true, "repeat": 2}]}]}' || why=$(drive_errors)
		sleep 2 # counters of engines are read every second
		computed=$(stat_of engine.tokens) nowhere=$(stat_of engine.unattributed)
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		grep -q "counting what Ollama computes for port $PORT" "$WEIR_LOG" || why="$why; not said: $(cat "$WEIR_LOG")"
		jq -e --argjson n "$computed" '.total | $n >= .completion_tokens and $n <= .prompt_tokens + .completion_tokens' "$TOLD" >/dev/null || why="$why; computed $computed, told $(jq -c .total "$TOLD")"
		[ "$nowhere" = 0 ] || why="$why; $nowhere tokens of nobody"
	else
		why="weir did not attach: $(tail -2 "$WEIR_LOG")"
	fi
	if [ -n "$why" ]; then fail engine "${why#; }"; else ok engine; fi
fi
HOW=-TERM restarted restart ollama ollama_start <<'PLAN'
{"model": "tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "ollama-chat", "tokens": 12, "natural": true}, {"stream": true, "usage": true, "tokens": 40, "natural": true, "repeat": 2}]}]}
PLAN
estimates ollama-one-at-a-time "--seeded --pairs 20" "--seeded --median 50"
estimates ollama-eight-clients "--seeded --clients 8 --pairs 4 --seed 3" "--seeded --median 50"
suite_end
