#!/usr/bin/env bash
# LiteLLM's proxy (from PyPI, installed once into the cache): with answers of its own, and in front of a server, each listener
# counted apart. Nothing leaves this machine but the installation.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers/lib.sh"
DRIVE_TIMEOUT=${DRIVE_TIMEOUT:-240} # a server of this size answers late on a busy machine; only a hang is a failure
suite_needs ss curl jq "$PYTHON"
server_install litellm "${WEIR_LITELLM_INSTALL_S:-420}" || suite_end

export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 NO_PROXY='*' no_proxy='*'
LITELLM_MASTER_KEY=sk-weir-master-$RANDOM$RANDOM$RANDOM$RANDOM
export LITELLM_MASTER_KEY

# proxy_start PORT-OF-BACKEND OPTION...: sets PROXY (its port) and PROXY_PID.
proxy_start() {
	local backend=$1 long
	shift
	long=$("$PYTHON" -c 'print("The river rises in spring, the keeper reads the gauge. " * 300)')
	cp "$E2E/servers/litellm_keys.py" "$WORK/"
	cat >"$WORK/proxy.yaml" <<-YAML
		model_list:
		  - {model_name: mock, litellm_params: {model: openai/mock, api_key: none, mock_response: "What came down the river was counted once, and not again at the bridge."}}
		  - {model_name: mock-long, litellm_params: {model: openai/mock-long, api_key: none, mock_response: "$long"}}
		  - {model_name: mock-embed, litellm_params: {model: openai/mock-embed, api_key: none, mock_response: [0.25, -0.5, 0.125]}, model_info: {mode: embedding}}
		  - {model_name: behind, litellm_params: {model: openai/weir-tiny, api_base: "http://127.0.0.1:$backend/v1", api_key: none}}
		  - {model_name: refused, litellm_params: {model: openai/mock, api_key: none, mock_response: "litellm.RateLimitError"}}
		  - {model_name: broken, litellm_params: {model: openai/mock, api_key: none, mock_response: "litellm.InternalServerError"}}
		general_settings: {custom_auth: litellm_keys.check}
		litellm_settings: {telemetry: false, num_retries: 0}
		router_settings: {num_retries: 0, disable_cooldowns: true}
	YAML
	[ -n "${SAME_PORT:-}" ] || port_new
	PROXY=$PORT
	(cd "$WORK" && exec "$CACHE/litellm/bin/litellm" --config "$WORK/proxy.yaml" --host 127.0.0.1 --port "$PROXY" "$@") >"$WORK/proxy.log" 2>&1 &
	PROXY_PID=$!
	PIDS+=("$PROXY_PID")
	server_up "$PROXY_PID" 180 "http${TLS:+s}://127.0.0.1:$PROXY/health/liveliness"
}

on() { ! case_wanted "$1" || case_run "$1" "$PROXY" "${@:2}"; } # NAME [COMPARE OPTIONS...] [-- RECORD OPTIONS...] <PLAN: the proxy's port is watched

# Both listeners watched: what the clients were told by the proxy, and what the server behind it knows it sent.
both() {
	local name=$1 plan out why=
	plan=$(cat)
	case_wanted "$name" || return 0
	server_end
	TRUTH=$WORK/truth.$BACKEND.json
	rm -f "$TRUTH"
	"$MODELSERVER" --port "$BACKEND" --truth "$TRUTH" 2>"$WORK/modelserver.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/modelserver.log" 10 ready || { fail "$name" "no server behind"; return; }
	if ! weir_start --port "$PROXY" --port "$BACKEND"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
		return
	fi
	drive "127.0.0.1:$PROXY" <<<"$plan" || why=$(drive_errors)
	settle
	if weir_clients >"$WORK/clients.jsonl" && truth_now "$WORK/now.json"; then
		out=$("$PYTHON" "$E2E/compare.py" --port "$PROXY" "$TOLD" "$WORK/clients.jsonl" 2>&1) || why="$why; proxy: $out"
		out=$("$PYTHON" "$E2E/compare.py" --port "$BACKEND" "$WORK/now.json" "$WORK/clients.jsonl" 2>&1) || why="$why; behind: $out"
	else
		why="$why; no counters or no truth"
	fi
	stat_of inner | tr "'" '"' >"$WORK/inner"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	# each request has one record, the proxy's; what it asked of the server behind is known as inner hops, of which the server tells the same
	out=$("$PYTHON" "$E2E/compare.py" --records --ends "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	out=$(jq --argjson outer "$PROXY" --slurpfile truth "$WORK/now.json" '
		{ requests, prompt: .prompt_tokens, completion: .completion_tokens, outer: (.links | map(.outer_port) | unique) } as $i
		| ($truth[0].clients | { requests: (map(.requests) | add), prompt: (map(.prompt_tokens) | add), completion: (map(.completion_tokens) | add), outer: [$outer] }) as $t
		| if $i == $t then "same" else "inner hops \($i), truth \($t)" end' -r "$WORK/inner")
	[ "$out" = same ] || why="$why; $out"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

if ! modelserver_start; then
	fail "$SUITE" "no server to stand behind the proxy: $(tail -1 "$WORK/modelserver.log")"
	suite_end
fi
BACKEND=$PORT
if ! proxy_start "$BACKEND"; then
	fail "$SUITE" "the proxy did not start: $(tail -3 "$WORK/proxy.log")"
	suite_end
fi

on shapes -- --ends <<'PLAN'
{"model": "mock", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"loose": true, "natural": true}, {"stream": true, "usage": true, "natural": true}, {"stream": true, "natural": true}, {"api": "completion", "natural": true},
  {"api": "completion", "stream": true, "usage": true, "natural": true}, {"api": "completion", "stream": true, "natural": true},
  {"api": "embedding", "model": "mock-embed", "repeat": 2}, {"natural": true, "prompt_bytes": 30000}]},
  {"src": "127.0.0.31", "keepalive": false, "requests": [{"natural": true, "repeat": 3}, {"stream": true, "usage": true, "natural": true, "repeat": 3}]}]}
PLAN
software_is shapes 'litellm/[0-9]+\.[0-9.a-z-]+'
on twenty-clients -- --ends <<'PLAN'
{"model": "mock", "key": "sk-weir-two", "clients": [{"src": "127.0.0.11", "count": 20, "requests": [
  {"natural": true, "repeat": 3}, {"stream": true, "usage": true, "natural": true, "repeat": 3}, {"stream": true, "natural": true, "repeat": 2}]}]}
PLAN
on errors -- --ends <<'PLAN'
{"model": "mock", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"body": "{bad", "expect": 400}, {"body": "{\"model\":\"mock\"}", "expect": [400, 422, 500]}, {"model": "nowhere", "expect": [400, 404]},
  {"model": "nowhere", "stream": true, "expect": [400, 404]}, {"api": "get", "path": "/nowhere", "expect": 404}, {"path": "/v1/nowhere", "expect": 404},
  {"headers": {"authorization": "Bearer sk-stolen"}, "expect": 401}, {"headers": {"authorization": "Bearer sk-stolen"}, "stream": true, "expect": 401},
  {"model": "refused", "expect": 429}, {"model": "broken", "expect": 500}, {"api": "get", "path": "/v1/models"},
  {"api": "get", "path": "/health/liveliness"}, {"natural": true}]}]}
PLAN
on abort --aborted-more -- --ends <<'PLAN'
{"model": "mock", "key": "sk-weir-one", "clients": [
  {"src": "127.0.0.11", "count": 4, "requests": [{"model": "mock-long", "stream": true, "usage": true, "natural": true, "abort_after": 12, "repeat": 2}, {"natural": true}]},
  {"src": "127.0.0.21", "count": 4, "requests": [{"model": "mock-long", "stream": true, "natural": true, "abort_after": 30}]},
  {"src": "127.0.0.31", "count": 2, "requests": [{"stream": true, "usage": true, "natural": true, "repeat": 2}]}]}
PLAN
ended_early abort
on before-a-server -- --ends <<'PLAN'
{"model": "behind", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"stream": true, "tokens": 33}, {"api": "completion", "tokens": 9},
  {"api": "completion", "stream": true, "usage": true, "tokens": 20}, {"api": "embedding"}, {"tokens": 12, "prompt": "again"}, {"tokens": 12, "prompt": "again"}]}]}
PLAN
# The reason stands before the text in LiteLLM's answers, behind long heads.
on long-answers -- --ends <<'PLAN'
{"model": "behind", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 6, "requests": [{"tokens": 900, "repeat": 2}, {"api": "completion", "tokens": 900}]}]}
PLAN
PORT=$PROXY
estimates litellm-mock "--key sk-weir-one --model mock --seeded --clients 4 --pairs 4" "--seeded --median 50"
estimates litellm-before-a-server "--key sk-weir-one --model behind --clients 4 --pairs 4" "--median 50"
both both-watched <<'PLAN'
{"model": "behind", "key": "sk-weir-two", "clients": [{"src": "127.0.0.11", "count": 20, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 57}, {"tokens": 300}, {"stream": true, "usage": true, "tokens": 5}]}]}
PLAN

# ---- as it is run: each start of the proxy takes its time, so only where servers are asked for ---------------------------------------
[ -n "${WEIR_TEST_SERVERS:-}" ] || { skip "$SUITE-ways" "TLS, granian, hypercorn, gunicorn, llama-server behind: opt-in, make test-servers"; suite_end; }
SOFTWARE='litellm/[0-9]+\.[0-9.a-z-]+' PORT=$PROXY
SAYS="watching port $PROXY \\(litellm, pid $PROXY_PID" named auto "$SOFTWARE" mock sk-weir-one sk-weir-two -- --auto
if command -v nginx >/dev/null; then behind_nginx nginx "$SOFTWARE" mock sk-weir-one sk-weir-two; else skip nginx "nginx is not installed"; fi

# A real engine behind it.
LLAMA=${WEIR_LLAMA_SERVER:-$CACHE/llama/bin/llama-server} GGUF=${WEIR_DATA:-$ROOT/../shared/data}/models/tiny-synth.gguf
if [ -x "$LLAMA" ] && [ -r "$GGUF" ]; then
	server_end
	"$LLAMA" -m "$GGUF" --alias weir-tiny --host 127.0.0.1 --port "$BACKEND" -c 65536 -np 4 -t 1 --offline >"$WORK/llama.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	server_up "$SERVER_PID" 60 "http://127.0.0.1:$BACKEND/health" || fail llama-behind "llama-server did not start: $(tail -1 "$WORK/llama.log")"
	# llama-server closes after a stream although it announced keep-alive: LiteLLM, on that connection once more, answers 500
	double_hop llama-behind "$PROXY" "$BACKEND" <<'PLAN'
{"model": "behind", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 6, "requests": [
  {"tokens": 12, "natural": true, "expect": [200, 500]}, {"stream": true, "usage": true, "tokens": 57, "natural": true, "expect": [200, 500]},
  {"stream": true, "usage": true, "tokens": 5, "natural": true, "expect": [200, 500]}]}]}
PLAN
else
	skip llama-behind "no llama-server ($LLAMA) or no model ($GGUF)"
fi

proxy_restart() { proxy_start "$BACKEND" && SERVER_PID=$PROXY_PID; }
AGAIN='{"model": "mock", "key": "sk-weir-one", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"natural": true, "repeat": 2}, {"stream": true, "usage": true, "natural": true, "repeat": 2}]}]}'
server_end
SERVER_PID=$PROXY_PID
HOW=-TERM restarted restart litellm proxy_restart <<<"$AGAIN"
end_pid "$SERVER_PID"

# way NAME SAYS OPTION...: the proxy run in another way is found, and is the same.
way() {
	local name=$1 says=$2
	shift 2
	case_wanted "$name" || return 0
	if proxy_start "$BACKEND" "$@"; then
		PORT=$PROXY SAYS=$says named "$name" "$SOFTWARE" mock sk-weir-one sk-weir-two -- --auto
	else
		fail "$name" "the proxy did not start: $(tail -3 "$WORK/proxy.log")"
	fi
	end_pid "$PROXY_PID"
}
way granian '' --run_granian
way gunicorn '' --run_gunicorn
if [ -x "$CACHE/litellm/bin/hypercorn" ]; then way hypercorn '' --run_hypercorn; else skip hypercorn "not installed beside LiteLLM ($CACHE/litellm/bin/pip install hypercorn)"; fi
certificate_make || fail tls "no certificate: $(tail -1 "$WORK/openssl.log")"
TLS=true way tls 'metering TLS in .*libssl' --ssl_keyfile_path "$TLS_KEY" --ssl_certfile_path "$TLS_CERT"
suite_end
