#!/bin/bash
# Tokens that an engine computes: a shared library of our own with llama.cpp's function in it, and llama-server where there is one.
. "$(dirname "$0")/lib.sh"
suite_needs "$PYTHON" jq curl cc

cat >"$WORK/llama.c" <<'C'
#include <stdint.h>
struct llama_batch { int32_t n_tokens; int32_t *token; float *embd; int32_t *pos, *n_seq_id, **seq_id; int8_t *logits; };
int32_t llama_decode(void *ctx, struct llama_batch batch);
int32_t llama_decode(void *ctx, struct llama_batch batch) { (void)ctx; return batch.n_tokens; }
C
cc -O2 -shared -fPIC -o "$WORK/libllama.so.1" "$WORK/llama.c" || { skip "$SUITE" "no compiler for a shared library"; suite_end; }

engine_start() { # engine_start [fork]
	"$PYTHON" "$E2E/engine_server.py" "$PORT" "$WORK/libllama.so.1" "$@" 2>"$WORK/engine.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 10 curl -sf -o /dev/null "http://127.0.0.1:$PORT/computed"
}
ask() { curl -sS --max-time 20 -o /dev/null -H 'Content-Type: application/json' -d "$1" "http://127.0.0.1:$PORT/v1/completions"; }

counted() { # what weir counted since it began, once that stands still
	local last=-1 now
	for _ in 1 2 3 4 5 6; do
		now=$(stat_of engine.tokens)
		[ "$now" = "$last" ] && break
		last=$now
		sleep 1.2
	done
	echo "$now"
}

# Exact, from several threads, also in a process that was started after weir dropped its privileges.
exact() {
	case_wanted exact || return 0
	local truth again got
	port_new
	engine_start || { fail exact "the server did not start: $(tail -1 "$WORK/engine.log")"; return; }
	ask '{"prompt":"before weir looked","max_tokens":5}'
	truth=$(curl -s "http://127.0.0.1:$PORT/computed" | jq .computed)
	weir_start --port "$PORT" || { fail exact "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	for _ in $(seq 8); do
		for _ in $(seq 10); do ask '{"prompt":"one two three four five six seven","max_tokens":9,"extra":3}'; done &
	done
	wait $(jobs -p | grep -v -e "^$SERVER_PID$" -e "^$WEIR_PID$")
	truth=$(($(curl -s "http://127.0.0.1:$PORT/computed" | jq .computed) - truth))
	server_end
	engine_start || { fail exact "the server did not start again"; weir_stop >/dev/null; return; }
	ask '{"prompt":"a b c","max_tokens":4}'
	again=$(curl -s "http://127.0.0.1:$PORT/computed" | jq .computed)
	got=$(counted)
	if [ "$truth" -lt 1000 ] || [ "$got" != $((truth + again)) ]; then
		fail exact "the engine computed $truth + $again tokens, weir counted $got; $(stat_of engine.unattributed) unattributed, $(stat_of engine.unreadable) unreadable"
	elif [ "$(stat_of engine.processes)" != 2 ] || [ "$(stat_of engine.unattributed)" != 0 ]; then
		fail exact "$(stat_of engine.processes) processes, $(stat_of engine.unattributed) tokens unattributed"
	elif ! grep -q "counting what llama.cpp computes for port $PORT" "$WEIR_LOG"; then
		fail exact "weir does not say so"
	else
		ok exact
	fi
	weir_stop >"$WORK/stop" || fail exact "$(cat "$WORK/stop")"
	server_end
}

# Two servers with one library: known apart also after one of them was started again, and where a child computes.
shared() {
	local other other_pid truth got
	case_wanted shared || return 0
	port_new
	engine_start fork || { fail shared "the server did not start: $(tail -1 "$WORK/engine.log")"; return; }
	other=$PORT other_pid=$SERVER_PID
	port_new
	engine_start || { fail shared "the second server did not start: $(tail -1 "$WORK/engine.log")"; return; }
	weir_start --port "$PORT" --port "$other" || { fail shared "weir did not attach: $(tail -2 "$WEIR_LOG")"; return; }
	server_end
	engine_start || { fail shared "the second server did not start again"; weir_stop >/dev/null; return; }
	wait_for 10 grep -q "port $PORT: .*, pid $SERVER_PID" "$WEIR_LOG" || fail shared "the restart was not seen: $(cat "$WEIR_LOG")"
	ask '{"prompt":"a b c d e","max_tokens":6}'
	PORT=$other ask '{"prompt":"one two three","max_tokens":5}'
	truth=$(($(curl -s "http://127.0.0.1:$PORT/computed" | jq .computed) + $(curl -s "http://127.0.0.1:$other/computed" | jq .computed)))
	got=$(counted)
	if [ "$truth" != 17 ] || [ "$got" != "$truth" ] || [ "$(stat_of engine.unattributed)" != 0 ]; then
		fail shared "the engines computed $truth tokens, weir counted $got, $(stat_of engine.unattributed) of nobody"
	else
		ok shared
	fi
	weir_stop >"$WORK/stop" || fail shared "$(cat "$WORK/stop")"
	server_end
	end_pid "$other_pid"
}

# Where nothing has an engine's function, nothing is loaded, and nothing is said.
none() {
	case_wanted none || return 0
	modelserver_start || { fail none "the model server did not start"; return; }
	weir_start --port "$PORT" || { fail none "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	if [ "$(stat_of engine.files)" = 0 ] && ! grep -qi 'comput' "$WEIR_LOG"; then ok none; else fail none "$(cat "$WEIR_LOG")"; fi
	weir_stop >"$WORK/stop" || fail none "$(cat "$WORK/stop")"
	server_end
}

# llama.cpp itself: what its usage says, less what its cache had, less the last token of each answer, which is never computed.
real() {
	case_wanted real || return 0
	local llama gguf="${WEIR_DATA:-$ROOT/../shared/data}/models/tiny-synth.gguf" told got
	for llama in "${WEIR_LLAMA_SERVER:-}" "$CACHE/llama/bin/llama-server" "$(command -v llama-server)"; do
		[ -n "$llama" ] && "$llama" --version >/dev/null 2>&1 && break
		llama=
	done
	[ -n "$llama" ] || { skip real "no llama-server (WEIR_LLAMA_SERVER, or make test-servers)"; return; }
	[ -r "$gguf" ] || { skip real "no model: $gguf (set WEIR_DATA)"; return; }
	port_new
	"$llama" -m "$gguf" --alias tiny --host 127.0.0.1 --port "$PORT" -c 4096 -np 1 -t 1 --offline >"$WORK/llama.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 60 curl -sf -o /dev/null "http://127.0.0.1:$PORT/health" || { fail real "the server did not start: $(tail -1 "$WORK/llama.log")"; return; }
	weir_start --port "$PORT" || { fail real "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	if ! grep -q "counting what llama.cpp computes for port $PORT" "$WEIR_LOG" && ! nm "$llama" "$(dirname "$llama")"/libllama.so* 2>/dev/null | grep -q ' T llama_decode'; then
		skip real "$llama is linked statically and stripped"
		weir_stop >/dev/null
		server_end
		return
	fi
	for i in 1 2 3 4 5; do ask "{\"prompt\":\"The river rose $i metres over night and\",\"max_tokens\":16}"; done
	got=$(counted)
	weir_stop >"$WORK/stop" || { fail real "$(cat "$WORK/stop")"; server_end; return; }
	server_end
	told=$(jq -s 'map(select(.kind == "inference") | .prompt_tokens - (.cached_tokens // 0) + .completion_tokens - 1) | add' "$RECORDS")
	if [ "$got" = "$told" ]; then ok real; else fail real "computed $got, told $told"; fi
}

exact
shared
none
real
suite_end
