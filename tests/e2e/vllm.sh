#!/usr/bin/env bash
# A real vLLM on the CPU with a tiny random model: what clients were told, and vLLM's own counters, are the truth. Opt-in, as it
# takes 7 GB and minutes to install: `make test-servers`, or WEIR_TEST_SERVERS=1 where it is in the cache.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers/lib.sh"
DRIVE_TIMEOUT=${DRIVE_TIMEOUT:-240} # a server of this size answers late on a busy machine; only a hang is a failure
suite_needs ss curl jq "$PYTHON"
server_asked vllm "${WEIR_VLLM_INSTALL_S:-1500}" || suite_end

KEY=sk-weir-vllm-one KEY2=sk-weir-vllm-two
# vllm_start OPTION...: sets PORT and SERVER_PID. One thread and no compiler: the model is nothing, the server is what is tested.
vllm_start() {
	[ -n "${SAME_PORT:-}" ] || port_new
	HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 DO_NOT_TRACK=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
		OMP_NUM_THREADS=1 VLLM_CACHE_ROOT=$WORK/vllm-cache "$CACHE/vllm/bin/vllm" serve "$CACHE/vllm/model" \
		--served-model-name tiny --host 127.0.0.1 --port "$PORT" --dtype bfloat16 --max-model-len 8192 --max-num-seqs 16 \
		--enforce-eager --enable-prompt-tokens-details --api-key "$KEY" "$KEY2" "$@" >>"$WORK/vllm.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	server_up "$SERVER_PID" 300 "http${TLS:+s}://127.0.0.1:$PORT/health"
}

# What vLLM counted since it started: "PROMPT GENERATED", once nothing runs any more.
vllm_counted() {
	local i
	for ((i = 0; i < 100; i++)); do
		curl -sf -m 5 "http://127.0.0.1:$PORT/metrics" >"$WORK/metrics"
		awk '/^vllm:num_requests_(running|waiting)\{/ { n += $NF } END { exit n > 0 }' "$WORK/metrics" && break
		sleep 0.1
	done
	sleep 0.2
	curl -sf -m 5 "http://127.0.0.1:$PORT/metrics" | awk '/^vllm:prompt_tokens_total\{/ { p += $NF } /^vllm:generation_tokens_total\{/ { g += $NF } END { printf "%d %d", p, g }'
}

# on NAME same|most|skip [COMPARE OPTIONS...] <PLAN: `same` says that weir's sums must be vLLM's own, `most` that they may be less.
on() {
	local name=$1 own=$2 plan before after weir
	shift 2
	plan=$(cat)
	case_wanted "$name" || return 0
	before=$(vllm_counted)
	rm -f "$WORK/clients.jsonl"
	case_run "$name" "$PORT" "$@" <<<"$plan"
	[ "$own" != skip ] && [ -s "$WORK/clients.jsonl" ] || return 0
	after=$(vllm_counted)
	weir=$(jq -rs '"\(map(.prompt_tokens) | add) \(map(.completion_tokens + .estimated_tokens) | add)"' "$WORK/clients.jsonl")
	if awk -v own="$own" '{ p = $3 - $1; g = $4 - $2; exit !(own == "same" ? p == $5 && g == $6 : p >= $5 && g >= $6 && $6 > 0) }' <<<"$before $after $weir"; then
		ok "$name-own-counters"
	else
		fail "$name-own-counters" "vLLM counted from '$before' to '$after' (prompt, generated), weir '$weir'"
	fi
}

if ! vllm_start; then
	fail "$SUITE" "vLLM did not start: $(tail -3 "$WORK/vllm.log")"
	suite_end
fi

on chat same -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "usage": true, "continuous": true, "tokens": 31},
  {"tokens": 400}, {"tokens": 60, "natural": true}, {"stream": true, "usage": true, "tokens": 200, "natural": true},
  {"tokens": 5, "prompt_bytes": 6000}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 20, "repeat": 3}]}]}
PLAN
software_is chat "vllm/${WEIR_VLLM_VERSION:-[0-9]+\\.}.*"
# Found by itself; behind nginx.
SOFTWARE='vllm/[0-9]+\.[^ ]+'
SAYS="watching port $PORT \\(vllm, pid" named auto "$SOFTWARE" tiny "$KEY" "$KEY2" -- --auto
if command -v nginx >/dev/null; then behind_nginx nginx "$SOFTWARE" tiny "$KEY" "$KEY2"; else skip nginx "nginx is not installed"; fi
# vLLM runs, and counts, the prompt of every choice; its usage tells of one
on choices most -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"tokens": 3, "extra": {"n": 3}, "loose": true}, {"stream": true, "usage": true, "tokens": 8, "extra": {"n": 2}, "loose": true}]}]}
PLAN
on completions same -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "completion", "tokens": 9}, {"api": "completion", "stream": true, "usage": true, "tokens": 40},
  {"api": "completion", "stream": true, "usage": true, "continuous": true, "tokens": 40},
  {"api": "completion", "tokens": 12, "echo": true, "loose": true}, {"api": "completion", "tokens": 9, "extra": {"logprobs": 3}}]}]}
PLAN
on responses same <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "responses", "tokens": 12, "natural": true, "repeat": 2}, {"api": "responses", "stream": true, "tokens": 60, "natural": true, "repeat": 3}]}]}
PLAN
on messages same <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"api": "messages", "tokens": 12, "natural": true, "repeat": 2}, {"api": "messages", "stream": true, "tokens": 60, "natural": true, "repeat": 3}]}]}
PLAN
on cached same <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "requests": [
  {"tokens": 5, "repeat": 4, "prompt": "$(printf 'The keeper reads the gauge in the morning. %.0s' {1..60})"}]}]}
PLAN
on twenty-clients same -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 20, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 80}, {"api": "completion", "stream": true, "usage": true, "tokens": 40}, {"tokens": 100}]}]}
PLAN
on without-usage most -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 6, "requests": [
  {"stream": true, "tokens": 80}, {"api": "completion", "stream": true, "tokens": 40}, {"stream": true, "usage": true, "tokens": 12}]}]}
PLAN
on abort most --aborted-more -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [
  {"src": "127.0.0.11", "count": 4, "requests": [{"stream": true, "usage": true, "tokens": 4000, "abort_after": 12, "repeat": 2}, {"tokens": 7}]},
  {"src": "127.0.0.21", "count": 4, "requests": [{"stream": true, "tokens": 4000, "abort_after": 40}]},
  {"src": "127.0.0.31", "count": 2, "requests": [{"stream": true, "usage": true, "continuous": true, "tokens": 4000, "abort_after": 25}]},
  {"src": "127.0.0.41", "count": 2, "requests": [{"stream": true, "usage": true, "tokens": 90, "repeat": 2}]}]}
PLAN
ended_early abort
on errors skip -- --ends <<PLAN
{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"body": "{bad", "expect": 400}, {"body": "{\"model\":\"tiny\"}", "expect": 400}, {"model": "nowhere", "expect": 404},
  {"model": "nowhere", "stream": true, "expect": 404}, {"api": "get", "path": "/nowhere", "expect": 404}, {"path": "/v1/nowhere", "expect": 404},
  {"headers": {"authorization": "Bearer sk-stolen"}, "expect": 401}, {"stream": true, "usage": true, "prompt_bytes": 120000, "tokens": 5, "expect": 400},
  {"tokens": 100000, "expect": 400}, {"tokens": -1, "expect": 400}, {"api": "get"}, {"api": "get", "path": "/v1/models"}, {"api": "get", "path": "/version"},
  {"api": "completion", "path": "/tokenize", "tokens": 3, "loose": true}, {"tokens": 4}]}]}
PLAN
estimates vllm-one-at-a-time "--key $KEY --pairs 20" "--median 50"
estimates vllm-completions "--key $KEY --pairs 10 --api completion --seed 2" "--median 50"
estimates vllm-twenty-clients "--key $KEY --clients 20 --pairs 2 --seed 3" "--median 50"
server_end

if case_wanted embeddings; then
	if vllm_start --runner pooling --convert embed; then
		on embeddings skip -- --ends <<-PLAN
			{"model": "tiny", "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [{"api": "embedding", "repeat": 3},
			  {"api": "embedding", "extra": {"input": ["The river", "rises in spring", "42"]}}, {"api": "embedding", "model": "nowhere", "expect": 404},
			  {"api": "embedding", "path": "/score", "extra": {"text_1": "high water", "text_2": ["The river rises", "The mill is dry"]}},
			  {"api": "embedding", "path": "/v1/rerank", "extra": {"query": "high water", "documents": ["The river rises", "The mill is dry"]}},
			  {"api": "embedding", "path": "/pooling"}]}]}
		PLAN
	else
		fail embeddings "vLLM did not start as an embedder: $(tail -3 "$WORK/vllm.log")"
	fi
fi
server_end

# TLS, by uvloop and Python's memory BIOs; weir is there first, and the server comes, as after a restart of its own.
if case_wanted tls; then
	why=
	certificate_make || why="no certificate: $(tail -1 "$WORK/openssl.log")"
	port_new
	if ! weir_start --port "$PORT"; then
		why="$why; weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! TLS=true SAME_PORT=$PORT vllm_start --ssl-keyfile "$TLS_KEY" --ssl-certfile "$TLS_CERT"; then
		why="$why; vLLM did not start over TLS: $(tail -3 "$WORK/vllm.log")"
	else
		wait_for 15 grep -qE 'metering TLS in .*libssl' "$WEIR_LOG" || why="$why; no probe was set: $(cat "$WEIR_LOG")"
		wait_for 15 grep -qE "port $PORT: vllm, pid" "$WEIR_LOG" || why="$why; the server was not told of: $(cat "$WEIR_LOG")"
		sleep 4 # two looks of the helper
		drive "127.0.0.1:$PORT" <<-PLAN || why="$why; $(drive_errors)"
			{"model": "tiny", "tls": true, "key": "$KEY", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
			  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "usage": true, "continuous": true, "tokens": 31}]},
			  {"src": "127.0.0.31", "keepalive": false, "requests": [{"tokens": 12, "repeat": 2}, {"stream": true, "usage": true, "tokens": 20, "repeat": 2}]}]}
		PLAN
		settle
		weir_clients >"$WORK/clients.jsonl"
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
		# the health checks of its start came before the probes
		out=$("$PYTHON" "$E2E/compare.py" --ignore 127.0.0.1 "$TOLD" "$WORK/clients.jsonl" 2>&1) || why="$why; counters: $out"
		out=$("$PYTHON" "$E2E/compare.py" --records --ends --ignore 127.0.0.1 "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
		jq -se 'last.server | test("vllm/[0-9]")' "$RECORDS" >/dev/null || why="$why; server $(jq -c .server "$RECORDS" | sort -u | tr '\n' ' ')"
	fi
	[ -z "$WEIR_PID" ] || weir_stop >/dev/null
	if [ -n "$why" ]; then fail tls "${why#; }"; else ok tls; fi
fi
suite_end
