#!/usr/bin/env bash
# A user's own dialect, from the file to the counters and records: a server with names of its own, plain and as a stream.
. "$(dirname "$0")/lib.sh"
suite_needs ss curl jq "$PYTHON"

own_server() { # sets PORT and SERVER_PID
	port_new
	"$PYTHON" - "$PORT" 2>"$WORK/server.log" <<'PY' &
import http.server, json, sys, time

class Own(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        doc = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        if not doc["opts"]["stream"]:
            body = json.dumps({"who": "deep-9", "answer": "Rome it is", "n_in": 11, "n_out": 4}).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = [{"piece": "w%d" % i} for i in range(30)]
        if doc["opts"].get("count"):
            events.append({"n_in": 12, "n_out": 33})
        for e in events:
            data = b"data: " + json.dumps(e).encode() + b"\n\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *a):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Own).serve_forever()
PY
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	wait_for 10 eval 'ss -Hltn "sport = :$PORT" | grep -q .'
}

cat >"$WORK/own.conf" <<'CONF'
# names that nobody else has
inference POST /v3/think/{model} stream=opts.stream max_tokens=opts.limit user=meta.user prompt=say answered_model=who
tokens prompt n_in
tokens completion n_out
text piece
CONF

ask() { curl -sf -o /dev/null -H 'content-type: application/json' -d "$1" "http://127.0.0.1:$PORT/gw/v3/think/deep?x=1"; }

# want NAME JQ-EXPRESSION: of all records, slurped
want() { jq -es "$1" "$RECORDS" >/dev/null || why="$why${why:+; }not so: $1"; }

if case_wanted own-names; then
	why=
	if ! own_server; then
		fail own-names "no server: $(tail -1 "$WORK/server.log")"
	elif ! weir_start --port "$PORT" --dialects "$WORK/own.conf"; then
		fail own-names "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		ask '{"opts":{"stream":false,"limit":7},"meta":{"user":"dora"},"say":"Capital?"}' || why="no answer"
		ask '{"opts":{"stream":true,"count":true},"say":"Capital?"}' || why="no stream"
		ask '{"opts":{"stream":true},"say":"Capital?"}' || why="no stream"
		settle
		weir_clients >"$WORK/clients.jsonl" || why="weir clients failed"
		jq -es 'length == 1 and .[0].requests == 3 and .[0].prompt_tokens == 23 and .[0].completion_tokens == 37 and .[0].estimated_tokens == 30' \
			"$WORK/clients.jsonl" >/dev/null || why="$why${why:+; }counters: $(cat "$WORK/clients.jsonl")"
		weir_stop >"$WORK/stop" || why="$why${why:+; }$(cat "$WORK/stop")"
		want 'length == 3 and all(.kind == "inference")'
		want '.[0] | .model_name == "deep-9" and .user == "dora" and .max_tokens == 7 and .prompt_chars == 8 and .prompt_tokens == 11 and .completion_tokens == 4 and .stream == false'
		want '.[1] | .model_name == "deep" and .prompt_tokens == 12 and .completion_tokens == 33 and .stream and (has("estimated") | not) and has("ttft_ms")'
		want '.[2] | .completion_tokens == 30 and .estimated'
		if [ -n "$why" ]; then fail own-names "$why"; else ok own-names; fi
	fi
	server_end
fi

# The same server without the file: its calls are listed by the names of their fields, and nothing that a client wrote is in the list.
if case_wanted unknown-shapes; then
	why=
	if ! own_server; then
		fail unknown-shapes "no server: $(tail -1 "$WORK/server.log")"
	elif ! weir_start --port "$PORT"; then
		fail unknown-shapes "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		for i in 1 2 3; do
			ask '{"opts":{"stream":false,"limit":7},"meta":{"user":"secret-user"},"say":"secret-prompt","k9f83a7712":{"secret-key 1":1}}' || why="no answer"
		done
		settle
		sleep 0.5
		"$WEIR" check --unknown --json --socket "$WORK/sock" >"$WORK/unknown" 2>&1 || why="check --unknown failed: $(head -1 "$WORK/unknown")"
		jq -es 'length == 1 and (.[0] | .method == "POST" and .path == "/gw/v3/think/deep" and .count == 3 and .metered == 0 and
			.request == ["opts","opts.stream","opts.limit","meta","meta.user","say","*","*.*"] and .response == ["who","answer","n_in","n_out"])' \
			"$WORK/unknown" >/dev/null || why="$why${why:+; }listed: $(head -c 500 "$WORK/unknown")"
		grep -q secret "$WORK/unknown" && why="$why${why:+; }a value is in it"
		"$WEIR" check --unknown --socket "$WORK/sock" | grep -q '^POST /gw/v3/think/deep: 3 calls, tokens found in 0$' || why="$why${why:+; }not for people"
		weir_stop >"$WORK/stop" || why="$why${why:+; }$(cat "$WORK/stop")"
		"$WEIR" check --unknown --socket "$WORK/sock" >"$WORK/out" 2>&1 && why="$why${why:+; }no agent, and no complaint"
		if [ -n "$why" ]; then fail unknown-shapes "$why"; else ok unknown-shapes; fi
	fi
	server_end
fi

if case_wanted config-file; then
	printf '[weir]\ndialects = %s\n' "$WORK/own.conf" >"$WORK/weir.conf"
	printf 'inference POST /x\ninference POST y\n' >"$WORK/bad.conf"
	printf '[weir]\ndialects = %s\n' "$WORK/bad.conf" >"$WORK/badweir.conf"
	why=
	"$WEIR" check --config "$WORK/weir.conf" >"$WORK/out" 2>&1
	[ $? -ne 2 ] || why="a good file is refused: $(head -1 "$WORK/out")"
	for options in "--dialects $WORK/bad.conf" "--config $WORK/badweir.conf"; do
		# shellcheck disable=SC2086
		"$WEIR" run --port 1 $options >"$WORK/out" 2>&1
		[ $? -eq 2 ] && grep -qF "$WORK/bad.conf:2: a path begins" "$WORK/out" || why="$why${why:+; }run $options: $(head -1 "$WORK/out")"
	done
	"$WEIR" check --config "$WORK/badweir.conf" >"$WORK/out" 2>&1
	[ $? -eq 2 ] || why="$why${why:+; }check takes a bad file"
	if [ -n "$why" ]; then fail config-file "$why"; else ok config-file; fi
fi

suite_end
