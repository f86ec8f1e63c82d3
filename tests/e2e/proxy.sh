#!/usr/bin/env bash
# The PROXY protocol, written by a real HAProxy before the connections that it makes: requests, tokens and errors are counted exactly, as
# without; the client is the proxy for those who do not trust it, and the one it names for those who do.
. "$(dirname "$0")/lib.sh"
suite_needs ss haproxy jq

PLAN='{"clients": [{"src": "127.0.0.11", "count": 4, "requests": [
  {"tokens": 12, "repeat": 5}, {"stream": true, "usage": true, "tokens": 300, "repeat": 3}, {"api": "get"}, {"body": "{bad", "expect": 400},
  {"prompt_bytes": 100000, "tokens": 2}]}, {"src": "127.0.0.21", "keepalive": false, "requests": [{"tokens": 3, "repeat": 10}]}]}'

# proxied NAME "SEND OPTION" CLIENTS [WEIR OPTION...]: CLIENTS: peers, or the true ones
proxied() {
	local name=$1 send=$2 clients=$3 front why='' out
	shift 3
	case_wanted "$name" || return 0
	port_new
	front=$PORT
	# a server that knows the protocol: HAProxy itself takes the prefix off again, on the port that is watched
	modelserver_start || { fail "$name" "the model server did not start"; return; }
	local back=$PORT
	port_new
	cat >"$WORK/haproxy.cfg" <<CFG
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
frontend outer
    bind 127.0.0.1:$front
    default_backend inner
backend inner
    http-reuse safe
    server weir 127.0.0.1:$PORT $send
frontend watched
    bind 127.0.0.1:$PORT accept-proxy
    default_backend model
backend model
    server model 127.0.0.1:$back
CFG
	haproxy -db -f "$WORK/haproxy.cfg" >"$WORK/haproxy.log" 2>&1 &
	local proxy=$!
	PIDS+=("$proxy")
	if ! wait_for 10 eval "ss -Hltn 'sport = :$front' | grep -q ."; then
		fail "$name" "haproxy: $(tail -3 "$WORK/haproxy.log")"
	elif ! weir_start --port "$PORT" "$@"; then
		fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"
	else
		drive "127.0.0.1:$front" <<<"$PLAN" || why=$(drive_errors)
		settle
		weir_clients >"$WORK/clients.jsonl" || why="$why no counters"
		out=$(stat_of assemble.proxied) || why="$why no statistics"
		[ "${out:-0}" -gt 0 ] || why="$why; no prefix was seen"
		[ "$(stat_of assemble.proxied_bad)" = 0 ] || why="$why; prefixes that could not be read"
		weir_stop >"$WORK/stop" || why="$why $(cat "$WORK/stop")"
		# What the clients were told, all of them together: between them and the counters stands one address.
		"$PYTHON" - "$TOLD" "$WORK/clients.jsonl" "$RECORDS" "$clients" >"$WORK/verdict" 2>&1 <<'PY' || why="$why $(tail -3 "$WORK/verdict")"
import collections, json, sys
told, counted, records = json.load(open(sys.argv[1])), [json.loads(l) for l in open(sys.argv[2])], [json.loads(l) for l in open(sys.argv[3])]
told = told["clients"] if "clients" in told else told
rows = told.values() if isinstance(told, dict) else told
names = ("requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens", "cached_tokens")
bad = []
for n in names:
    want, have = sum(r.get(n, 0) for r in rows), sum(r[n] for r in counted)
    if want != have:
        bad.append(f"{n}: told {want}, counted {have}")
if len(records) != sum(r.get("requests", 0) for r in rows):
    bad.append(f"{len(records)} records")
by = collections.Counter(r["client_ip"] for r in records)
if sys.argv[4] == "peers":
    if set(by) != {"127.0.0.1"}:
        bad.append(f"records name {dict(by)}")
elif not set(by) <= {"127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14", "127.0.0.21"} or by["127.0.0.21"] != 10:
    bad.append(f"records name {dict(by)}")
print("; ".join(bad))
sys.exit(bool(bad))
PY
		if [ -n "$why" ]; then fail "$name" "$why"; else ok "$name"; fi
	fi
	end_pid "$proxy"
	server_end
}

proxied v1-untrusted "send-proxy" peers
proxied v2-untrusted "send-proxy-v2" peers
proxied v1-trusted "send-proxy" true --trusted-proxy 127.0.0.1
proxied v2-trusted "send-proxy-v2 proxy-v2-options unique-id,crc32c" true --trusted-proxy 127.0.0.1
suite_end
