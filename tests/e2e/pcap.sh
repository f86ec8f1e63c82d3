#!/usr/bin/env bash
# Packet captures: tcpdump and weir look at the same packets of a model server under load; the capture's records equal the live ones, in all
# but the digits of times.
. "$(dirname "$0")/lib.sh"
suite_needs ss tcpdump jq

# capture_start FILE OPTION...: sets CAPTURE_PID
capture_start() {
	local file=$1
	shift
	tcpdump -n -U --immediate-mode -s 0 -B 65536 -Z root -w "$file" "$@" "tcp port $PORT" 2>"$WORK/tcpdump.log" &
	CAPTURE_PID=$!
	PIDS+=("$CAPTURE_PID")
	started "$CAPTURE_PID" "$WORK/tcpdump.log" 10 'listening on'
}

# Fails where the kernel had to drop packets: then there is nothing to compare.
capture_end() {
	end_pid "$CAPTURE_PID" -INT
	grep -q '^0 packets dropped by kernel' "$WORK/tcpdump.log"
}

caddy_start() { # caddy_start UPSTREAM: h1 and h2c on PORT
	port_new
	printf '{\n admin off\n auto_https off\n servers {\n  protocols h1 h2c\n }\n}\nhttp://:%s {\n bind 127.0.0.1\n reverse_proxy %s {\n  flush_interval -1\n }\n}\n' "$PORT" "$1" >"$WORK/Caddyfile"
	XDG_DATA_HOME=$WORK XDG_CONFIG_HOME=$WORK caddy run --config "$WORK/Caddyfile" --adapter caddyfile >"$WORK/caddy.log" 2>&1 &
	PIDS+=("$!")
	wait_for 10 curl -s -o /dev/null "http://127.0.0.1:$PORT/health"
}

# One key for both, so that hashes of API keys can be compared.
keep_key() { rm -rf "$WORK/live" "$WORK/replay" && mkdir -m 700 "$WORK/live" "$WORK/replay" && head -c 16 /dev/urandom >"$WORK/live/key" && chmod 600 "$WORK/live/key" && cp -p "$WORK/live/key" "$WORK/replay/key"; }

# agree NAME "SERVER OPTIONS" "TCPDUMP OPTIONS" [REPLAY OPTION...] <PLAN: LIVE are further options of the agent
agree() {
	local name=$1 server=$2 tap=$3 plan out dropped=
	shift 3
	plan=$(cat)
	case_wanted "$name" || return 0
	keep_key
	# shellcheck disable=SC2086
	modelserver_start $server || { fail "$name" "the model server did not start: $(cat "$WORK/modelserver.log")"; return; }
	[ -z "${FRONT:-}" ] || "$FRONT" "127.0.0.1:$PORT" || { fail "$name" "no front"; server_end; return; }
	# shellcheck disable=SC2086
	if ! capture_start "$WORK/$name.pcap" $tap; then
		fail "$name" "tcpdump: $(tail -2 "$WORK/tcpdump.log")"
	# shellcheck disable=SC2086
	elif ! weir_start --port "$PORT" --state "$WORK/live" --ring-size 16777216 ${LIVE:-}; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	elif ! "${DRIVE:-drive}" "${TARGET:-127.0.0.1}:$PORT" <<<"$plan"; then
		fail "$name" "$(drive_errors)"
		weir_stop >/dev/null
	else
		if [ -n "${LOAD:-}" ]; then
			# shellcheck disable=SC2086
			"$BUILD/weir-loadgen" $LOAD "127.0.0.1:$PORT" >"$WORK/load.json" 2>&1 || fail "$name" "load: $(tail -1 "$WORK/load.json")"
		fi
		settle
		capture_end || dropped=1
		weir_stop >"$WORK/stop" || fail "$name" "$(cat "$WORK/stop")"
		if [ -n "$dropped" ]; then
			skip "$name" "tcpdump was too slow for this machine: $(grep 'dropped by kernel' "$WORK/tcpdump.log")"
		elif ! "$WEIR" replay --output json --state "$WORK/replay" --records-out "$WORK/$name.jsonl" "$@" "$WORK/$name.pcap" >"$WORK/events" 2>"$WORK/replay.log"; then
			fail "$name" "weir replay: $(tail -2 "$WORK/replay.log")"
		elif ! out=$("$PYTHON" "$E2E/pcap_agree.py" "$RECORDS" "$WORK/$name.jsonl" 2>&1); then
			fail "$name" "$out; $(head -3 "$WORK/replay.log")"
		else
			ok "$name"
		fi
	fi
	end_pid "$CAPTURE_PID"
	server_end
}

# replays NAME COMMAND: of the capture of case `load`
check() {
	case_wanted "load" || return 0
	if "${@:2}"; then ok "$1"; else fail "$1" "$(tail -3 "$WORK/replay.log")"; fi
}

PLAN='{"clients": [{"src": "127.0.0.11", "count": 8, "requests": [
  {"tokens": 12, "repeat": 5}, {"stream": true, "usage": true, "tokens": 57, "repeat": 5, "headers": {"Authorization": "Bearer sesame-1"}},
  {"stream": true, "usage": true, "continuous": true, "tokens": 31}, {"api": "completion", "tokens": 7, "prompt": "The river"},
  {"stream": true, "usage": true, "tokens": 20000}, {"api": "embedding"}, {"api": "get"}, {"api": "get", "path": "/v1/models", "method": "HEAD"},
  {"body": "{bad", "expect": 400}, {"prompt_bytes": 200000, "tokens": 2}]},
  {"src": "127.0.0.41", "count": 3, "pipeline": 4, "requests": [{"api": "completion", "tokens": 5, "repeat": 20}]},
  {"src": "127.0.0.51", "count": 2, "keepalive": false, "requests": [{"tokens": 5, "repeat": 10}]}]}'
LOAD="--requests 4000 --rate 1500 --connections 16 --src 127.0.0.71 --src-count 4 --body {\"model\":\"weir-tiny\",\"prompt\":\"x\",\"max_tokens\":3,\"ignore_eos\":true}" \
	agree load "" "-i lo" <<<"$PLAN"

# The same bytes each time, with the ports told or guessed, from a file or a pipe; the records replayed give what the capture gave.
deterministic() {
	"$WEIR" replay --output json --records-out "$WORK/a.jsonl" "$WORK/load.pcap" >"$WORK/a.events" 2>"$WORK/replay.log" &&
		"$WEIR" replay --output json --records-out "$WORK/b.jsonl" --format pcap - <"$WORK/load.pcap" >"$WORK/b.events" 2>"$WORK/replay.log" &&
		cmp "$WORK/a.jsonl" "$WORK/b.jsonl" && cmp "$WORK/a.events" "$WORK/b.events" &&
		"$WEIR" replay --output json --port "$PORT" --records-out "$WORK/b.jsonl" "$WORK/load.pcap" >"$WORK/b.events" 2>"$WORK/replay.log" &&
		cmp "$WORK/a.jsonl" "$WORK/b.jsonl" && [ -s "$WORK/a.jsonl" ] &&
		"$WEIR" replay --output json "$WORK/a.jsonl" >"$WORK/b.events" 2>"$WORK/replay.log" && cmp "$WORK/a.events" "$WORK/b.events"
}
check same-bytes deterministic
unprivileged() {
	chmod 755 "$WORK" && chmod 644 "$WORK/load.pcap" && cp "$WEIR" "$WORK/weir" && chmod 755 "$WORK/weir" &&
		setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$WORK/weir" replay --output json --records-out - "$WORK/load.pcap" 2>"$WORK/replay.log" >"$WORK/c.jsonl"
	[ $? -eq 2 ] && grep -q 'both want standard output' "$WORK/replay.log" &&
		setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$WORK/weir" replay --records-out - "$WORK/load.pcap" 2>"$WORK/replay.log" >"$WORK/c.jsonl" &&
		cmp "$WORK/a.jsonl" "$WORK/c.jsonl"
}
check unprivileged unprivileged
other_port() {
	"$WEIR" replay --port 9 --records-out "$WORK/d.jsonl" "$WORK/load.pcap" 2>"$WORK/replay.log" >/dev/null && [ ! -s "$WORK/d.jsonl" ] &&
		grep -q 'of other ports' "$WORK/replay.log"
}
check other-port other_port
itself() {
	cp "$WORK/load.pcap" "$WORK/e.pcap" && ! "$WEIR" replay --records-out "$WORK/e.pcap" "$WORK/e.pcap" 2>"$WORK/replay.log" >/dev/null && cmp "$WORK/load.pcap" "$WORK/e.pcap"
}
check not-itself itself

# A scrubbed capture gives the same records, but for who asked; nothing of the key or a prompt is in it; its file is the owner's alone.
scrubbed() {
	"$WEIR" scrub "$WORK/load.pcap" "$WORK/s.pcap" 2>"$WORK/replay.log" && [ "$(stat -c %a "$WORK/s.pcap")" = 600 ] &&
		"$WEIR" replay --records-out "$WORK/s.jsonl" "$WORK/s.pcap" 2>"$WORK/replay.log" >/dev/null &&
		"$PYTHON" "$E2E/pcap_agree.py" "$WORK/a.jsonl" "$WORK/s.jsonl" --without api_key,user,prompt_hash,prompt_sim,prompt_entropy,injection_score >"$WORK/replay.log" 2>&1 &&
		! grep -aq -e sesame-1 -e 'The river' "$WORK/s.pcap" && grep -aq -e sesame-1 "$WORK/load.pcap" && grep -aq -e 'The river' "$WORK/load.pcap" &&
		cp "$WORK/load.pcap" "$WORK/e.pcap" && ! "$WEIR" scrub "$WORK/e.pcap" "$WORK/e.pcap" 2>/dev/null && cmp "$WORK/load.pcap" "$WORK/e.pcap"
}
# Where tcpdump lost packets, there is no pair of records to compare: then `load` was skipped, too.
if case_wanted load && grep -q '^[1-9][0-9]* packets dropped by kernel' "$WORK/tcpdump.log"; then
	skip scrubbed "tcpdump lost packets: $(grep 'dropped by kernel' "$WORK/tcpdump.log")"
else
	check scrubbed scrubbed
fi

# OUT appears when it is whole, or is as it was: never IN by another name, a device, or half a file after a signal or on a full disk.
only() { [ "$(ls "$WORK/out")" = "$1" ]; }
scrub_out() {
	local link pid i
	rm -rf "$WORK/out" && mkdir "$WORK/out" && cp "$WORK/load.pcap" "$WORK/e.pcap" && ln -f "$WORK/e.pcap" "$WORK/e.hard" && ln -sf e.pcap "$WORK/e.soft" || return
	for link in e.hard e.soft; do
		"$WEIR" scrub "$WORK/e.pcap" "$WORK/$link" 2>"$WORK/replay.log"
		[ $? -eq 2 ] && grep -q 'is the capture itself' "$WORK/replay.log" && cmp "$WORK/load.pcap" "$WORK/e.pcap" || return
	done
	mkfifo "$WORK/out/pipe" && "$WEIR" scrub "$WORK/e.pcap" "$WORK/out/pipe" 2>"$WORK/replay.log"
	[ $? -eq 2 ] && [ -p "$WORK/out/pipe" ] && only pipe && grep -q 'is no regular file' "$WORK/replay.log" && rm "$WORK/out/pipe" || return
	echo before >"$WORK/out/s" && { (ulimit -c 0 -f 1; exec "$WEIR" scrub "$WORK/e.pcap" "$WORK/out/s") 2>"$WORK/replay.log" && return 1; only s; } && grep -qx before "$WORK/out/s" || return
	# shellcheck disable=SC2016 # the inner shell's
	unshare -m bash -c 'mount -t tmpfs -o size=64k tmpfs "$1/out" && echo before >"$1/out/s" || exit
		"$2" scrub "$1/e.pcap" "$1/out/s"; [ $? -eq 1 ] && [ "$(ls "$1/out")" = s ] && grep -qx before "$1/out/s"' - "$WORK" "$WEIR" 2>"$WORK/replay.log" &&
		grep -q 'No space left' "$WORK/replay.log" || return
	mkfifo "$WORK/half" || return
	"$WEIR" scrub "$WORK/half" "$WORK/out/s" 2>"$WORK/replay.log" &
	pid=$!
	PIDS+=("$pid")
	exec 9>"$WORK/half"
	head -c 3000 "$WORK/load.pcap" >&9
	for ((i = 0; i < 100; i++)); do
		only s || break
		sleep 0.1
	done
	only s && return 1 # it does write beside its place
	kill "$pid"
	exec 9>&-
	wait "$pid"
	[ $? -eq 143 ] && only s && grep -qx before "$WORK/out/s"
}
check scrub-out scrub_out

SMALL='{"clients": [{"src": "127.0.0.11", "count": 4, "requests": [{"tokens": 12, "repeat": 3}, {"stream": true, "usage": true, "tokens": 300, "repeat": 3}, {"api": "get"}]}]}'
agree cooked-v2 "" "-i any -y LINUX_SLL2" <<<"$SMALL"
agree cooked-v1 "" "-i any -y LINUX_SLL" <<<"$SMALL"
TARGET='[::1]' agree ipv6 "--bind ::1" "-i lo" <<<"${SMALL//\"127.0.0.11\", \"count\": 4/\"::1\", \"parallel\": 3}"
agree aborted "--tokens-per-s 50" "-i lo" <<'PLAN'
{"clients": [{"src": "127.0.0.11", "count": 5, "requests": [{"stream": true, "usage": true, "tokens": 1000, "abort_after": 7, "repeat": 2},
  {"stream": true, "usage": true, "tokens": 9}]}]}
PLAN

# Who is believed: the same by live and by capture.
LIVE="--trusted-proxy 127.0.0.16/31 --trusted-header x-forwarded-for" agree trusted "" "-i lo" --trusted-proxy 127.0.0.16/31 --trusted-header x-forwarded-for <<'PLAN'
{"clients": [{"src": "127.0.0.16", "count": 2, "requests": [{"tokens": 5, "headers": {"X-Forwarded-For": "198.51.100.9, 203.0.113.7", "X-Real-IP": "203.0.113.8"}, "repeat": 3}]},
  {"src": "127.0.0.41", "requests": [{"tokens": 5, "headers": {"X-Forwarded-For": "203.0.113.66"}, "repeat": 3}]}]}
PLAN
believed() {
	jq -se 'map(.client_ip) | sort == ([range(3) | "127.0.0.41"] + [range(6) | "203.0.113.7"])' "$WORK/trusted.jsonl" >/dev/null &&
		grep -q 'x-forwarded-for believed 6 x-forwarded-for ignored 3' "$WORK/replay.log" || return
	"$WEIR" replay --trusted-proxy 127.0.0.1/8 "$WORK/trusted.pcap" 2>"$WORK/replay.log"
	[ $? -eq 2 ] && grep -q 'bits set behind its prefix' "$WORK/replay.log" || return
	"$WEIR" replay --trusted-proxy 127.0.0.1 "$WORK/trusted.jsonl" 2>"$WORK/replay.log"
	[ $? -eq 2 ] && grep -q 'are for captures' "$WORK/replay.log"
}
if case_wanted trusted; then
	if believed; then ok believed; else fail believed "$(tail -3 "$WORK/replay.log")"; fi
fi

# HTTP/2 in clear text: streams side by side on one connection, and the switch to it from HTTP/1.
h2c() {
	local url body='{"model":"weir-tiny","messages":[{"role":"user","content":"why"}],"max_tokens":20,"ignore_eos":true'
	local stream="$body,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" ask=(-sf -H 'content-type: application/json')
	url=http://127.0.0.1:$PORT/v1/chat/completions
	printf '%s' "$stream" >"$WORK/h2c.body"
	h2load -n 8 -c 2 -m 4 -t 1 -d "$WORK/h2c.body" -H 'content-type: application/json' "$url" >"$WORK/h2load.txt" 2>&1 && grep -q '^status codes: 8 2xx' "$WORK/h2load.txt" &&
		curl "${ask[@]}" --http2-prior-knowledge -d "$body}" "$url" -o /dev/null && curl "${ask[@]}" --http2 -d "$stream" "$url" -o /dev/null &&
		curl "${ask[@]}" --http1.1 -d "$body}" "$url" -o /dev/null
}
if case_wanted h2c && ! { command -v caddy && command -v h2load; } >/dev/null; then
	skip h2c "caddy or h2load is not installed"
elif case_wanted h2c; then
	DRIVE=h2c FRONT=caddy_start agree h2c "" "-i lo" </dev/null
	if jq -se 'length == 11 and all(.completion_tokens == 20 and .finish_reason == "length") and (map(select(.stream)) | length) == 9' "$WORK/h2c.jsonl" >/dev/null; then
		ok h2c-records
	else
		fail h2c-records "$(head -3 "$WORK/h2c.jsonl")"
	fi
fi

# The library is asked for when a capture is opened, not before.
if case_wanted lazy; then
	if ldd "$WEIR" | grep -q libpcap; then fail lazy "weir is linked with libpcap"; else ok lazy; fi
fi
suite_end
