#!/usr/bin/env bash
# Who asked, behind a real nginx: with and without trust, with headers that clients forge; tokens per true client, key and user exact.
. "$(dirname "$0")/lib.sh"
suite_needs ss nginx curl jq

# Clients of many addresses, each with a chain of its own making, keys and users.
PLAN='{"model": "weir-tiny", "clients": [
  {"src": "127.0.0.11", "count": 12, "requests": [
    {"tokens": 9, "headers": {"x-forwarded-for": "1.1.1.1", "authorization": "Bearer sk-weir-one"}, "repeat": 5},
    {"stream": true, "usage": true, "tokens": 21, "headers": {"x-forwarded-for": "10.9.9.9, unknown, 127.0.0.9", "x-api-key": "sk-weir-two", "x-litellm-end-user-id": "maria"}, "repeat": 3},
    {"stream": true, "tokens": 7, "headers": {"forwarded": "for=\"[2001:db8::66]\"", "x-real-ip": "6.6.6.6", "cf-connecting-ip": "7.7.7.7", "x-stainless-retry-count": "1"}},
    {"api": "embedding", "headers": {"authorization": "Bearer sk-weir-one"}}]},
  {"src": "127.0.0.41", "count": 4, "keepalive": false, "requests": [{"tokens": 30, "headers": {"api-key": "sk-weir-three"}, "repeat": 4}]}]}'

# sums FILE FIELDS...: over all lines.
sums() { jq -sc '[$ARGS.positional[] as $f | (map(.[$f] // 0) | add)]' --args "${@:2}" <"$1"; }

# behind NAME WANT DIRECTIVES [WEIR OPTIONS...]: WANT true: the clients are told apart; peer: all of it is the gateway's.
behind() {
	local name=$1 want=$2 directives=$3 why= out
	shift 3
	case_wanted "$name" || return 0
	if ! modelserver_start; then fail "$name" "no server"; return; fi
	BACKEND=$PORT
	if ! gateway_start "$BACKEND" "proxy_bind 127.0.0.9; $directives"; then fail "$name" "nginx did not start: $(tail -1 "$WORK/nginx.log")"; return; fi
	if ! weir_start --port "$BACKEND" "$@"; then fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; return; fi
	if ! drive "127.0.0.1:$GATEWAY" <<<"$PLAN"; then why=$(drive_errors); fi
	settle
	weir_clients >"$WORK/peers.jsonl"
	[ "$(sums "$WORK/peers.jsonl" requests)" = "[136]" ] || why="$why; peers: $(cat "$WORK/peers.jsonl")"
	for out in client key user; do "$WEIR" clients --by $out --json --socket "$WORK/sock" >"$WORK/by-$out.jsonl" || why="$why; --by $out failed"; done
	"$WEIR" clients --by client --socket "$WORK/sock" | head -1 | grep -q '^CLIENT .* RETRIES' || why="$why; no table"
	for out in client key user; do
		# whichever way it is counted, it is the same traffic
		[ "$(sums "$WORK/peers.jsonl" requests prompt_tokens completion_tokens cached_tokens status_2xx aborted lost)" = \
			"$(sums "$WORK/by-$out.jsonl" requests prompt_tokens completion_tokens cached_tokens status_2xx aborted lost)" ] ||
			why="$why; by $out $(sums "$WORK/by-$out.jsonl" requests prompt_tokens completion_tokens) peers $(sums "$WORK/peers.jsonl" requests prompt_tokens completion_tokens)"
	done
	stat_of identity >"$WORK/identity" 2>&1
	out=
	if [ "$want" = true ]; then
		out=$("$PYTHON" "$E2E/compare.py" --fields requests,status_2xx,prompt_tokens,completion_tokens,cached_tokens,aborted --ignore 127.0.0.9 "$TOLD" "$WORK/by-client.jsonl" 2>&1) || why="$why; $out"
	else
		[ "$(jq -r .client_ip "$WORK/by-client.jsonl" | sort -u)" = 127.0.0.9 ] || why="$why; clients $(jq -r .client_ip "$WORK/by-client.jsonl" | sort -u | tr '\n' ' ')"
	fi
	[ "$(jq -s 'map(select(.api_key)) | length' "$WORK/by-key.jsonl")" = 3 ] || why="$why; keys: $(cat "$WORK/by-key.jsonl")"
	jq -se 'map(select(.user == "maria")) | length == 1 and .[0].requests == 36' "$WORK/by-user.jsonl" >/dev/null || why="$why; users: $(cat "$WORK/by-user.jsonl")"
	weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	if [ "$want" = true ]; then
		out=$("$PYTHON" "$E2E/compare.py" --records "$LOG" "$RECORDS" 2>/dev/null) || why="$why; records: $out"
	else
		[ "$(jq -r .client_ip "$RECORDS" | sort -u)" = 127.0.0.9 ] || why="$why; records of $(jq -r .client_ip "$RECORDS" | sort -u | tr '\n' ' ')"
	fi
	grep -q 'sk-weir\|1\.1\.1\.1\|6\.6\.6\.6' "$RECORDS" && why="$why; a key or a forged address in the records"
	end_pid "$GATEWAY_PID"
	server_end
	IDENTITY=$(cat "$WORK/identity")
	[ -z "${CHECK:-}" ] || $PYTHON -c "i = $IDENTITY; assert $CHECK, i" 2>"$WORK/check" || why="$why; counted: $(tail -1 "$WORK/check")"
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}

XFF='proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;'
REAL='proxy_set_header X-Real-IP $remote_addr;'
CHECK='i["named"]["x-forwarded-for"] == 136 and not any(i["ignored"].values()) and i["conflicts"] == 12' \
	behind appended true "$XFF" --trusted-proxy 127.0.0.9
CHECK='i["ignored"]["x-forwarded-for"] == 136 and i["ignored"]["x-real-ip"] == 12 and not any(i["named"].values())' \
	behind not-trusted peer "$XFF"
CHECK='i["ignored"]["x-forwarded-for"] == 136 and not any(i["named"].values())' \
	behind others-trusted peer "$XFF" --trusted-proxy 10.0.0.0/8 --trusted-proxy 127.0.0.11
# a proxy that sets one header alone, and lets the rest of what clients wrote through
CHECK='i["named"]["x-real-ip"] == 136 and not i["named"]["x-forwarded-for"]' \
	behind one-header true "$REAL" --trusted-proxy 127.0.0.9/32 --trusted-header X-Real-IP
CHECK='i["named"]["forwarded"] == 136' \
	behind forwarded true 'proxy_set_header Forwarded "$http_forwarded, for=\"$remote_addr:$remote_port\";proto=http";' --trusted-proxy 127.0.0.9 --trusted-header forwarded
# by the file; and the log says that the clients are hidden, and what to do, only where they are
hidden() {
	local name=hidden-clients why= i
	case_wanted "$name" || return 0
	modelserver_start && BACKEND=$PORT && gateway_start "$BACKEND" "proxy_bind 127.0.0.9; $XFF" || { fail "$name" "no server"; return; }
	for i in hidden believed; do
		printf '[weir]\nport = %s\n%s\n' "$BACKEND" "$([ $i = believed ] && echo 'trusted-proxy = 127.0.0.9')" >"$WORK/weir.conf"
		weir_start --config "$WORK/weir.conf" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; return; }
		drive "127.0.0.1:$GATEWAY" <<<'{"model": "weir-tiny", "clients": [{"src": "127.0.0.11", "count": 20, "requests": [{"tokens": 3, "repeat": 15}]}]}' || why=$(drive_errors)
		if [ $i = hidden ]; then
			wait_for 5 grep -q 'clients behind are hidden' "$WEIR_LOG" || why="$why; not said: $(tail -3 "$WEIR_LOG")"
			grep -q '127\.0\.0\.9.*--trusted-proxy' "$WEIR_LOG" || why="$why; no way out: $(grep hidden "$WEIR_LOG")"
			"$WEIR" check --socket "$WORK/sock" | grep -q 'clients are hidden.*127\.0\.0\.9' || why="$why; check says $("$WEIR" check --socket "$WORK/sock" | tail -3)"
			"$WEIR" check --json --socket "$WORK/sock" | jq -e '.clients.hidden == true' >/dev/null || why="$why; check --json"
		else
			sleep 1.5
			grep -q hidden "$WEIR_LOG" && why="$why; said although believed: $(grep hidden "$WEIR_LOG")"
			"$WEIR" check --json --socket "$WORK/sock" | jq -e '.clients.hidden == false' >/dev/null || why="$why; check --json believed"
		fi
		weir_stop >"$WORK/stop" || why="$why; $(cat "$WORK/stop")"
	done
	grep -q 'x-forwarded-for believed 300' "$WEIR_LOG" || why="$why; summary: $(tail -3 "$WEIR_LOG")"
	end_pid "$GATEWAY_PID"
	server_end
	if [ -n "$why" ]; then fail "$name" "${why#; }"; else ok "$name"; fi
}
hidden

suite_end
