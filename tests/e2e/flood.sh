#!/usr/bin/env bash
# A flood that overruns a deliberately small ring (a 32nd of the default): the counters equal the server's own, and a quiet client loses no record.
# WEIR_FLOOD_REQUESTS: how many (2000000).
. "$(dirname "$0")/lib.sh"
suite_needs ss wrk jq
WANT=${WEIR_FLOOD_REQUESTS:-2000000}

cat >"$WORK/post.lua" <<'LUA'
wrk.method = "POST"; wrk.path = "/v1/completions"; wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"weir-tiny","prompt":"The river rises","max_tokens":2,"ignore_eos":true}'
LUA

# records_stand_for CLIENT: requests that this client's records and lost lines stand for (summed up in $WORK/sums.json)
records_stand_for() { jq --arg ip "$1" '.[$ip] // 0' "$WORK/sums.json"; }

flood() { # flood NAME "SERVER OPTIONS" "RING"; the load is $4...
	local name=$1 quiet why= i=0 seen
	case_wanted "$name" || return 0
	# shellcheck disable=SC2086
	modelserver_start $2 || { fail "$name" "the model server did not start"; return; }
	weir_start --port "$PORT" --ring-size "$3" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	shift 3
	# one request per second, until the file `over` says that the flood is
	TOLD=$WORK/told.json LOG=$WORK/log.jsonl
	(
		n=0
		: >"$WORK/quiet.log"
		while [ ! -e "$WORK/over" ] || [ $n -lt 5 ]; do
			"$PYTHON" "$E2E/driver.py" --log "$WORK/quiet.one" "127.0.0.1:$PORT" - >/dev/null <<<'{"clients": [{"src": "127.0.0.50", "requests": [{"stream": true, "usage": true, "tokens": 20}]}]}' || exit 1
			cat "$WORK/quiet.one" >>"$WORK/quiet.log"
			n=$((n + 1))
			sleep 0.8
		done
	) &
	quiet=$!
	"$@" || why="the load failed: $(tail -3 "$WORK/load.log")"
	: >"$WORK/over"
	wait $quiet || why="$why the quiet client failed"
	rm -f "$WORK/over"
	sleep 1
	truth_now "$WORK/now.json" || why="$why no truth from the server"
	weir_clients >"$WORK/clients.jsonl" || why="$why no clients from weir"
	if [ -z "$why" ]; then
		# heads that the server never read (wrk hung up) are on top of its count; all else is equal
		why=$("$PYTHON" "$E2E/compare.py" $COMPARE "$WORK/now.json" "$WORK/clients.jsonl" 2>&1)
	fi
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	if [ -z "$why" ]; then
		[ -z "$QUIET" ] || "$PYTHON" "$E2E/compare.py" --records "$WORK/quiet.log" <(jq -c 'select(.client_ip == "127.0.0.50")' "$RECORDS") >"$WORK/cmp" 2>&1 ||
			why="the quiet client's records: $(cat "$WORK/cmp")"
		jq -nc 'reduce inputs as $r ({}; .[$r.client_ip] += ($r.weight // 1))' "$RECORDS" >"$WORK/sums.json"
		for ip in $(jq -r .client_ip "$WORK/clients.jsonl"); do
			seen=$(jq --arg ip "$ip" 'select(.client_ip == $ip) | .requests' "$WORK/clients.jsonl")
			[ "$(records_stand_for "$ip")" = "$seen" ] || why="$why records and lost lines of $ip stand for $(records_stand_for "$ip") of $seen requests;"
		done
	fi
	if [ -n "$why" ]; then fail "$name" "$why"; else
		ok "$name"
		printf '  %s requests, %s of them without a record of their own\n' "$(jq -s 'map(.requests) | add' "$WORK/clients.jsonl")" \
			"$(jq -s 'map(.lost) | add' "$WORK/clients.jsonl")"
	fi
	server_end
}

load_wrk() {
	local i
	for ((i = 0; i < 100; i++)); do # 100 x 4 s at most
		wrk -t1 -c64 -d4 -s "$WORK/post.lua" "http://127.0.0.1:$PORT" >"$WORK/load.log" 2>&1 || return 1
		truth_now "$WORK/so-far.json" || return 1
		[ "$(jq .total.requests "$WORK/so-far.json")" -lt "$WANT" ] || return 0
	done
	echo "the server answered only $(jq .total.requests "$WORK/so-far.json") of $WANT requests in time" >"$WORK/load.log"
	return 1
}

load_exact() { # nothing in flight at the end, from 20 addresses
	"$BUILD/weir-loadgen" --requests $((WANT / 10)) --connections 64 --src 127.0.0.101 --src-count 20 \
		--body '{"model":"weir-tiny","prompt":"The river rises","max_tokens":2,"ignore_eos":true}' "127.0.0.1:$PORT" >"$WORK/load.log" 2>&1
}

load_streams() {
	"$BUILD/weir-loadgen" --requests $((WANT / 200)) --connections 64 --src 127.0.0.101 --src-count 20 \
		--body '{"model":"weir-tiny","prompt":"The river rises","max_tokens":50,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}' \
		"127.0.0.1:$PORT" >"$WORK/load.log" 2>&1
}

QUIET=1 COMPARE="--cut --fields requests,status_2xx,status_4xx,status_5xx,prompt_tokens,completion_tokens,cached_tokens" flood wrk "" 65536 load_wrk
# Twenty that flood at the same time fill what is kept free for others: here the quiet client is promised its counts, not its records.
QUIET= COMPARE= flood exact "--threads 2" 65536 load_exact
QUIET= COMPARE= flood streams "--threads 2" 65536 load_streams

suite_end
