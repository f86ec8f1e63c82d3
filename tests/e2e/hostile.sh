#!/usr/bin/env bash
# Hostile clients and lying servers: weir stays up, its memory stays bounded, and the next good request is exact.
. "$(dirname "$0")/lib.sh"
suite_needs ss jq
RSS_MAX_KIB=65536 # idle is far below; a body that were kept would be a gigabyte

good_plan() { echo '{"model": "'"$1"'", "clients": [{"src": "127.0.0.77", "requests": [{"loose": true, "repeat": 3}]}, {"src": "127.0.0.78", "count": 2, "keepalive": false, "requests": [{"loose": true, "repeat": 2}]}]}'; }

# still_good NAME MODEL: weir lives, is small, and counts the good clients exactly
still_good() {
	local name=$1 why= out rss
	settle
	rss=$(weir_rss_kib)
	if [ -z "$rss" ]; then
		fail "$name" "weir died: $(tail -3 "$WEIR_LOG")"
		WEIR_PID=
		return 1
	fi
	[ "$rss" -le "$RSS_MAX_KIB" ] || why="resident memory $rss KiB; "
	if ! drive "127.0.0.1:$PORT" <<<"$(good_plan "$2")"; then
		why="$why$(drive_errors)"
	else
		settle
		weir_clients >"$WORK/clients.jsonl"
		out=$("$PYTHON" "$E2E/compare.py" --ignore 127.0.0.66 "$TOLD" "$WORK/clients.jsonl" 2>&1) || why="$why$out"
	fi
	weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
	[ -n "$why" ] || out=$("$PYTHON" "$E2E/compare.py" --records --ignore 127.0.0.66 "$LOG" "$RECORDS" 2>&1) || why="$why records: $out"
	[ -z "$why" ] || fail "$name" "$why"
	[ -z "$why" ]
}

# attack NAME [JQ]: the attacker's own counters (127.0.0.66) must satisfy JQ
attack() {
	local name=$1
	case_wanted "$name" || return 0
	modelserver_start --threads 2 || { fail "$name" "the model server did not start"; return; }
	weir_start --port "$PORT" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	if ! timeout 120 "$PYTHON" "$E2E/hostile.py" attack "$name" "127.0.0.1:$PORT" 2>"$WORK/attack.err"; then
		fail "$name" "the attack could not be made: $(tail -1 "$WORK/attack.err")"
		weir_stop >/dev/null
	elif still_good "$name" weir-tiny; then
		if [ -n "${2:-}" ] && ! jq -se --slurpfile t <(truth_now "$WORK/now.json"; jq -c '.clients[] | select(.client_ip == "127.0.0.66")' "$WORK/now.json") \
			'(map(select(.client_ip == "127.0.0.66")) | .[0]) as $w | $t[0] as $t | '"$2" "$WORK/clients.jsonl" >/dev/null; then
			fail "$name" "the attacker's counters: $(grep '"127.0.0.66"' "$WORK/clients.jsonl"); the server's: $(jq -c '.clients[] | select(.client_ip == "127.0.0.66")' "$WORK/now.json")"
		else
			ok "$name"
		fi
	fi
	server_end
}

attack garbage
attack almost
attack tls
attack http2
attack slowloris
attack fields
attack long_line
attack deep '$w.requests == $t.requests and $w.status_4xx == $t.status_4xx'
attack gigabyte
attack gigabyte_length
attack lengths
attack smuggle
# A client cannot invent answers: what the server reported stays exact, whatever it forges.
attack far_off '$w.requests == $t.requests and $w.completion_tokens == $t.completion_tokens and $w.prompt_tokens == $t.prompt_tokens'
attack bad_checksum '$w.completion_tokens == $t.completion_tokens and $w.prompt_tokens == $t.prompt_tokens and $w.status_2xx == $t.status_2xx'
attack stray

# lie NAME JQ: one answer of the lying server; $w are the counters of the client that got it
lie() {
	local name=$1
	case_wanted "lie-$name" || return 0
	port_new
	"$PYTHON" "$E2E/hostile.py" serve "$PORT" >"$WORK/liar.log" 2>&1 &
	SERVER_PID=$!
	PIDS+=("$SERVER_PID")
	started "$SERVER_PID" "$WORK/liar.log" 10 ready || { fail "lie-$name" "the liar did not start"; return; }
	weir_start --port "$PORT" || { fail "lie-$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	curl -s -m 5 --interface 127.0.0.66 -o /dev/null -d '{}' "http://127.0.0.1:$PORT/$name"
	curl -s -m 5 --interface 127.0.0.66 -o /dev/null -d '{}' "http://127.0.0.1:$PORT/$name"
	if still_good "lie-$name" m; then
		if jq -se '(map(select(.client_ip == "127.0.0.66")) | .[0]) as $w | ('"$2"')' "$WORK/clients.jsonl" >/dev/null; then
			ok "lie-$name"
		else
			fail "lie-$name" "$(grep '"127.0.0.66"' "$WORK/clients.jsonl")"
		fi
	fi
	server_end
}

lie beyond-64-bits '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie near-64-bits '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie negative '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie fraction '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie exponent '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie text '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie null '$w.requests == 2 and $w.prompt_tokens == 0 and $w.completion_tokens == 10'
lie deep '$w.requests == 2 and $w.prompt_tokens == 14 and $w.completion_tokens == 6'
lie many-fields '$w.requests == 2'
lie more-than-announced '$w.requests == 2 and $w.prompt_tokens == 14 and $w.completion_tokens == 6'
lie less-than-announced '$w.requests == 2 and $w.prompt_tokens == 14 and $w.completion_tokens == 6 and $w.aborted == 2'
lie absurd-length '$w.requests == 2'
lie negative-length '$w.requests == 2'
lie bad-chunk '$w.requests == 2'
lie huge-chunk '$w.requests == 2'
lie no-head '$w.requests == 2'
lie no-status '$w.requests == 2'
# An answer without a question stands for a question that was not seen.
lie two-for-one '$w.requests == 4 and $w.prompt_tokens == 14 and $w.completion_tokens == 6'
lie binary-stream '$w.requests == 2 and $w.status_2xx == 2'
lie unterminated-event '$w.requests == 2 and $w.status_2xx == 2'
lie repeated-usage '$w.requests == 2 and $w.prompt_tokens == 2'

suite_end
