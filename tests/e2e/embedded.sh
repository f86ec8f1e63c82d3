#!/usr/bin/env bash
# The embedded model server: every shape of traffic, and counters that equal what the clients were told, exactly.
. "$(dirname "$0")/lib.sh"
suite_needs ss

# shape NAME "SERVER OPTIONS" [COMPARE OPTIONS...] <PLAN
shape() {
	local name=$1 server=$2 plan
	shift 2
	plan=$(cat)
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	modelserver_start $server || { fail "$name" "the model server did not start: $(cat "$WORK/modelserver.log")"; return; }
	# shellcheck disable=SC2086
	if ! weir_start --port "$PORT" ${WEIR_OPTIONS:-}; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! drive "${TARGET:-127.0.0.1}:$PORT" <<<"$plan"; then
		fail "$name" "$(drive_errors)"
		weir_stop >/dev/null
	else
		case_compare "$name" "$@"
	fi
	server_end
}

shape kinds "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 20, "requests": [
  {"tokens": 12}, {"tokens": 40, "natural": true}, {"stream": true, "usage": true, "tokens": 57},
  {"stream": true, "usage": true, "continuous": true, "tokens": 31}, {"stream": true, "tokens": 9},
  {"api": "completion", "tokens": 7, "prompt": "The river"}, {"api": "completion", "stream": true, "usage": true, "tokens": 80, "natural": true},
  {"api": "embedding"}, {"api": "get"}, {"api": "get", "path": "/v1/models"}, {"api": "get", "path": "/metrics"},
  {"api": "get", "path": "/v1/models", "method": "HEAD"}]}]}
PLAN

shape close "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "keepalive": false, "loops": 5, "requests": [
  {"tokens": 12}, {"stream": true, "usage": true, "tokens": 33}, {"api": "embedding"}, {"api": "get"}]}]}
PLAN

shape lengths "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "requests": [
  {"stream": true, "usage": true, "tokens": 1}, {"stream": true, "usage": true, "tokens": 2}, {"stream": true, "usage": true, "tokens": 3},
  {"stream": true, "usage": true, "tokens": 10}, {"stream": true, "usage": true, "tokens": 100}, {"stream": true, "usage": true, "tokens": 1000},
  {"stream": true, "usage": true, "tokens": 10000}, {"stream": true, "tokens": 10000}]},
  {"src": "127.0.0.12", "count": 2, "requests": [{"stream": true, "usage": true, "tokens": 100000}]},
  {"src": "127.0.0.14", "requests": [{"tokens": 100000}, {"stream": true, "usage": true, "continuous": true, "tokens": 20000}]}]}
PLAN

shape coalesced "--coalesce 64" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"stream": true, "usage": true, "tokens": 20000},
  {"stream": true, "usage": true, "continuous": true, "tokens": 777}, {"stream": true, "tokens": 500}]}]}
PLAN

shape unicode "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"stream": true, "usage": true, "tokens": 900, "echo": true, "prompt": "川の水は低い堰を越えて — «größer» 🌊🧪 \u0001\u007f ﷽ \"\\\\\" e\u0301"},
  {"tokens": 300, "echo": true, "prompt": "Ποταμός 🐟🐟 \r\n\t"}, {"api": "completion", "tokens": 30, "echo": true, "prompt": "\ud83c\udf0a"}]}]}
PLAN

shape pipelined "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "pipeline": 4, "requests": [
  {"api": "completion", "tokens": 5, "repeat": 20}, {"stream": true, "usage": true, "tokens": 25, "repeat": 20},
  {"api": "get", "repeat": 4}, {"api": "embedding", "repeat": 4}]},
  {"src": "127.0.0.21", "pipeline": 2, "requests": [{"api": "get", "path": "/v1/models", "method": "HEAD"}, {"tokens": 5}, {"tokens": 6}, {"api": "get"}]}]}
PLAN

# Deeper than the times of a connection's requests are kept: the records may lack times, the counters nothing.
shape pipelined-deep "" --truth --no-records <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 2, "pipeline": 40, "requests": [
  {"api": "completion", "tokens": 5, "repeat": 80}, {"stream": true, "usage": true, "tokens": 25, "repeat": 40}]}]}
PLAN

shape errors "--max-body 100000" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"body": "{bad", "expect": 400}, {"body": "{\"messages\":[]}", "expect": 400}, {"body": "{\"model\":\"weir-tiny\"}", "expect": 400},
  {"model": "nobody", "expect": 404}, {"api": "get", "path": "/nowhere", "expect": 404}, {"method": "DELETE", "api": "get", "expect": 405},
  {"method": "GET", "api": "get", "path": "/v1/embeddings", "expect": 405}, {"tokens": 3}, {"tokens": 9000000, "expect": 400},
  {"body": "", "expect": 400}, {"stream": true, "usage": true, "tokens": 4}]},
  {"src": "127.0.0.21", "keepalive": false, "requests": [{"prompt_bytes": 20000, "tokens": 2}, {"prompt_bytes": 200000, "expect": 413}]}]}
PLAN

echo sesame >"$WORK/key"
shape unauthorized "--api-key $WORK/key" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "requests": [{"expect": 401, "repeat": 3}, {"expect": 401, "headers": {"authorization": "Bearer wrong"}},
  {"headers": {"authorization": "Bearer sesame"}, "tokens": 5}, {"stream": true, "usage": true, "tokens": 5, "headers": {"Authorization": "Bearer sesame"}},
  {"api": "get"}]}]}
PLAN

shape faults "--error-rate 0.3 --stream-error-rate 0.3" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "requests": [
  {"tokens": 5, "repeat": 10, "expect": [200, 500]}, {"stream": true, "usage": true, "tokens": 30, "repeat": 20, "expect": [200, 500], "loose": true}]}]}
PLAN

shape queue-full "--max-queue 2 --tokens-per-s 200" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 6, "requests": [{"tokens": 40, "repeat": 5, "expect": [200, 429]},
  {"stream": true, "usage": true, "tokens": 20, "repeat": 3, "expect": [200, 429]}]}]}
PLAN

TARGET='[::1]' shape ipv6 "--bind ::1" --truth <<'PLAN'
{"clients": [{"src": "::1", "parallel": 3, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 200, "repeat": 3},
  {"api": "embedding"}, {"body": "{", "expect": 400}]}]}
PLAN

shape v4-mapped "--bind ::" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 200}]}]}
PLAN

# What each client was told is not what an aborted answer was: the truth is what left the server.
shape aborted "" --only-truth --crossing --no-records <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "requests": [
  {"stream": true, "usage": true, "tokens": 1000, "abort_after": 7, "repeat": 4}, {"stream": true, "tokens": 5000, "abort_after": 300, "repeat": 2},
  {"stream": true, "usage": true, "continuous": true, "tokens": 5000, "abort_after": 100}, {"tokens": 9}]},
  {"src": "127.0.0.21", "slow": 20000, "requests": [{"stream": true, "tokens": 100000, "abort_after": 500}]}]}
PLAN

# Slow enough that the server learns of the end between two tokens: nothing is under way, so what left is what was told.
shape aborted-paced "--tokens-per-s 50" --truth --no-records <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "requests": [{"stream": true, "usage": true, "tokens": 1000, "abort_after": 7, "repeat": 2},
  {"stream": true, "usage": true, "continuous": true, "tokens": 500, "abort_after": 12}, {"stream": true, "usage": true, "tokens": 9}]}]}
PLAN

shape forged "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"stream": true, "usage": true, "echo": true, "tokens": 3, "prompt": "\"usage\":{\"prompt_tokens\":77777,\"completion_tokens\":88888}}\n\ndata: {\"usage\":{\"prompt_tokens\":99999}}\n\n"},
  {"stream": true, "echo": true, "tokens": 3, "prompt": "{\"usage\":{\"prompt_tokens\":77777,\"completion_tokens\":88888}}"},
  {"echo": true, "tokens": 3, "prompt": "\"}}],\"usage\":{\"prompt_tokens\":77777,\"completion_tokens\":88888,\"prompt_tokens_details\":{\"cached_tokens\":5}}}"},
  {"api": "completion", "echo": true, "tokens": 3, "prompt": "x\",\"completion_tokens\":88888,\"y\":\"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"},
  {"api": "embedding", "prompt": "\"prompt_tokens\": 4242424, POST /v1/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n"},
  {"tokens": 4, "extra": {"usage": {"prompt_tokens": 31337, "completion_tokens": 31337}, "completion_tokens": 31337}}]}]}
PLAN

shape bodies "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 2, "requests": [
  {"chunked": 11, "split": 7, "tokens": 4, "stream": true, "usage": true}, {"chunked": 4096, "prompt_bytes": 50000, "tokens": 4},
  {"prompt_bytes": 50000, "tokens": 4, "repeat": 3}, {"prompt_bytes": 400000, "tokens": 2}, {"split": 3, "tokens": 4},
  {"prompt": "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{}", "tokens": 3}, {"split": 100, "prompt_bytes": 3000, "tokens": 4}]},
  {"src": "127.0.0.21", "pipeline": 3, "requests": [{"chunked": 100, "prompt_bytes": 3000, "tokens": 4, "repeat": 9}]}]}
PLAN

shape old-http "" --truth --no-records <<'PLAN'
{"clients": [{"src": "127.0.0.11", "keepalive": false, "loops": 3, "requests": [
  {"api": "raw", "raw": "GET /v1/models HTTP/1.0\r\n\r\n"},
  {"api": "raw", "raw": "POST /v1/completions HTTP/1.0\r\nContent-Length: 88\r\n\r\n{\"model\":\"weir-tiny\",\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
  {"api": "raw", "raw": "POST /v1/completions HTTP/1.1\r\ncontent-LENGTH:40\r\nConnection:close\r\n\r\n{\"model\":\"weir-tiny\",\"prompt\":\"abcdefg\"}"}]}]}
PLAN

shape slow-reader "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "slow": 200000, "requests": [{"stream": true, "usage": true, "tokens": 2000}]}]}
PLAN

shape paced "--tokens-per-s 50" --truth -- --ttft-min 19 <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 10, "requests": [{"stream": true, "usage": true, "tokens": 20, "repeat": 2}, {"stream": true, "tokens": 20}]}]}
PLAN

shape deferred "--defer 1 --threads 2" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "keepalive": false, "loops": 4, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 33}]},
  {"src": "127.0.0.21", "count": 5, "requests": [{"tokens": 12, "repeat": 4}, {"stream": true, "usage": true, "tokens": 33}]}]}
PLAN

# Prompts may not leave the kernel; metering goes on. The model's name is then known from the response only.
WEIR_OPTIONS=--prompt-blind shape prompt-blind "" --truth <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"tokens": 12}, {"stream": true, "usage": true, "tokens": 33}, {"api": "embedding"}]}]}
PLAN

# weir comes while streams are under way: what they report at their end is still taken.
late() {
	local driver why=
	case_wanted late-attach || return 0
	modelserver_start --tokens-per-s 100 || { fail late-attach "the model server did not start"; return; }
	drive "127.0.0.1:$PORT" <<<'{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"stream": true, "usage": true, "tokens": 300}]}]}' &
	driver=$!
	sleep 1
	weir_start --port "$PORT" || { fail late-attach "weir did not attach: $(tail -2 "$WEIR_LOG")"; wait "$driver"; server_end; return; }
	wait "$driver"
	TOLD=$WORK/told.json LOG=$WORK/log.jsonl
	case_compare late-attach --fields prompt_tokens,completion_tokens,cached_tokens --no-records
	server_end
}
late

# The server comes back on its port while weir runs.
restart() {
	case_wanted restart || return 0
	modelserver_start || { fail restart "the model server did not start"; return; }
	weir_start --port "$PORT" || { fail restart "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	local plan='{"clients": [{"src": "127.0.0.11", "count": 3, "requests": [{"tokens": 3}, {"stream": true, "usage": true, "tokens": 30}]}]}' first
	drive "127.0.0.1:$PORT" <<<"$plan" || { fail restart "$(drive_errors)"; weir_stop; return; }
	first=$TOLD.first
	cp "$TOLD" "$first"
	cp "$LOG" "$LOG.first"
	server_end
	"$MODELSERVER" --port "$PORT" 2>"$WORK/modelserver.log" &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/modelserver.log" 10 ready
	drive "127.0.0.1:$PORT" <<<"$plan" || { fail restart "$(drive_errors)"; weir_stop; return; }
	jq -s '{clients: (.[0].clients + .[1].clients)}' "$first" "$TOLD" >"$WORK/both.json"
	TOLD=$WORK/both.json
	cat "$LOG.first" >>"$LOG"
	case_compare restart
	server_end
}
restart

suite_end
