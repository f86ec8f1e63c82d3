#!/bin/bash
# The journal sink against a real systemd-journald, in a mount namespace of its own: nothing of the host's journal is touched.
# Every class is found by its fields, the catalog's words are shown, and a stopped journald stops nobody.
set -u
cd "$(dirname "$0")/../.." || exit 1
EMIT=$PWD/build/e2e/emit_journal
JOURNALD=
for j in /lib/systemd/systemd-journald /usr/lib/systemd/systemd-journald; do [ -x $j ] && JOURNALD=$j && break; done
passed=0 failed=0

end() { echo "$passed passed, $failed failed, ${1:-0} skipped"; [ $failed -eq 0 ]; exit; }
skip() { echo "SKIP journal: $*"; end 1; }
ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: $2, not $3"; fi; }

if [ "${1:-}" != inside ]; then
	[ "$(id -u)" -eq 0 ] || skip "needs root for a mount namespace"
	[ -n "$JOURNALD" ] || skip "systemd-journald is not installed"
	command -v journalctl > /dev/null || skip "journalctl is not installed"
	[ -x "$EMIT" ] || { bad "$EMIT is not built (make test)"; end; }
	unshare -m true 2> /dev/null || skip "no mount namespaces here"
	exec unshare -m --propagation private "$0" inside
fi

# ---- a journald of our own ---------------------------------------------------------------------------
mkdir -p /var/log /var/lib/systemd
mount -t tmpfs tmpfs /run || skip "cannot mount a tmpfs"
mount -t tmpfs tmpfs /var/log || skip "cannot mount a tmpfs"
mount -t tmpfs tmpfs /var/lib/systemd || skip "cannot mount a tmpfs"
mkdir -p /run/systemd/journal /run/log/journal /var/log/journal /var/lib/systemd/catalog
mkdir -p /run/catalog && cp deploy/journal/weir.catalog /run/catalog/
mount --bind /run/catalog /usr/lib/systemd/catalog || skip "cannot bind the catalog"
[ -s /etc/machine-id ] || { systemd-id128 new > /run/machine-id; touch /etc/machine-id; mount --bind /run/machine-id /etc/machine-id; }

# The rate limit is journald's, not ours; without it the counts are exact.
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nForwardToWall=no\nReadKMsg=no\nAudit=no\n' > /run/systemd/journald.conf.d/test.conf
journald=
start_journald() {
	"$JOURNALD" 2> /run/journald.err &
	journald=$!
	for _ in $(seq 100); do [ -S /run/systemd/journal/socket ] && return 0; sleep 0.1; done
	return 1
}
trap 'kill -CONT $journald 2> /dev/null; kill $(jobs -p) 2> /dev/null; wait' EXIT
trap 'exit 130' INT TERM
start_journald || skip "systemd-journald does not start here: $(tail -n 1 /run/journald.err)"

# journald writes when it gets round to it: ask until the count stops being less than it must become, at most 20 s.
count() { journalctl -q -o json "$@" 2> /dev/null | wc -l; }
until_count() { # WANT MATCH...
	local want=$1 n=0; shift
	for _ in $(seq 100); do
		journalctl -q --sync 2> /dev/null
		n=$(count "$@")
		[ "$n" -ge "$want" ] && break
		sleep 0.2
	done
	echo "$n"
}

# ---- every class -------------------------------------------------------------------------------------
"$EMIT" classes 3 > /run/out || bad "emit_journal failed"
is "all events delivered" "$(sed -n 's/^ended //p' /run/out)" "42 0"
is "all events arrive" "$(until_count 42 SYSLOG_IDENTIFIER=weir)" 42
for class in flood ddos flash_crowd cost_spike scraping prompt_probing credential_abuse key_sharing token_growth latency_regression \
	error_burst traffic_drop unbilled_compute unknown; do
	got=$(journalctl -q WEIR_CLASS=$class -o json | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
print(sorted(r["WEIR_ID"] for r in rows), len({r["MESSAGE_ID"] for r in rows}), sorted(r["WEIR_EVENT"] for r in rows),
      sorted({(r["WEIR_SEVERITY"], r["PRIORITY"]) for r in rows}) in ([("info", "6")], [("warning", "4")], [("critical", "2")]),
      all(r["WEIR_OBSERVED"] == "412" and r["WEIR_EXPECTED"] == "3" and r["SYSLOG_IDENTIFIER"] == "weir" for r in rows))')
	is "journalctl WEIR_CLASS=$class" "$got" "['$class-0', '$class-1', '$class-2'] 1 ['close', 'open', 'update'] True True"
done
is "by scope" "$(count WEIR_SCOPE=client_ip:10.0.0.7)" 39
is "by priority" "$(journalctl -q -p crit SYSLOG_IDENTIFIER=weir -o json | wc -l)" "$(journalctl -q WEIR_SEVERITY=critical -o json | wc -l)"

# ---- the catalog -------------------------------------------------------------------------------------
if journalctl --update-catalog 2> /run/catalog.err; then ok "journalctl --update-catalog"; else bad "catalog: $(cat /run/catalog.err)"; fi
shown=$(journalctl -q -x WEIR_ID=flood-0)
for words in "Subject: weir flood: one or a few sources lift the request rate (client_ip:10.0.0.7)" "requests_per_s observed 412 expected 3" \
	"docs/runbooks.md#flood"; do
	if grep -qF "$words" <<< "$shown"; then ok "journalctl -x shows: $words"; else bad "journalctl -x lacks: $words"; fi
done

# ---- the agent itself, after it gave up its privileges -------------------------------------------------
live() {
	local port server weir calm i
	if ! { [ -x build/weir ] && [ -x build/weir-modelserver ] && [ -x build/weir-loadgen ]; }; then bad "the programs are not built"; return; fi
	if ! build/weir check > /run/check 2>&1; then
		echo "SKIP live: this kernel cannot meter: $(tail -n 1 /run/check)"
		skipped=1
		return
	fi
	build/weir-modelserver --port 0 2> /run/server.log &
	server=$!
	for i in $(seq 100); do grep -q ready /run/server.log && break; sleep 0.1; done
	port=$(sed -n 's/.*ready on .*:\([0-9]*\),.*/\1/p' /run/server.log)
	if [ -z "$port" ]; then bad "the model server does not start"; kill $server; return; fi
	build/weir run --port "$port" --journal --output json --socket /run/weir.sock > /run/events.jsonl 2> /run/weir.log &
	weir=$!
	for i in $(seq 100); do grep -q '^weir: ready' /run/weir.log && break; sleep 0.1; done
	local body='{"model":"weir-tiny","prompt":"The river","max_tokens":4}'
	build/weir-loadgen --rate 8 --duration 40 --connections 4 --src 127.0.0.51 --src-count 4 --body "$body" "127.0.0.1:$port" > /run/calm.json &
	calm=$!
	sleep 24
	build/weir-loadgen --rate 300 --duration 8 --connections 8 --src 127.0.0.77 --body "$body" "127.0.0.1:$port" > /run/flood.json
	wait $calm
	kill -INT $weir
	wait $weir
	is "weir run ends well" $? 0
	kill $server
	wait $server 2> /dev/null
	local told
	told=$(python3 -c 'import json, sys; print(len([1 for line in sys.stdin if json.loads(line)["class"] == "flood"]))' < /run/events.jsonl)
	[ "$told" -gt 0 ] && ok "the agent told of the flood on standard output" || bad "no flood in the agent's events: $(tail -n 3 /run/weir.log)"
	is "and of the same in the journal, as nobody" "$(until_count "$told" WEIR_CLASS=flood _COMM=weir "_UID=$(id -u nobody)")" "$told"
	is "whose doing it was" "$(journalctl -q WEIR_CLASS=flood _COMM=weir -o json | python3 -c '
import json, sys
print(*sorted({json.loads(line)["WEIR_SCOPE"] for line in sys.stdin}))')" client_ip:127.0.0.77
}
skipped=0
live

# ---- a stopped journald ------------------------------------------------------------------------------
kill -STOP $journald
"$EMIT" flood 5000 60 > /run/out &
emit=$!
for _ in $(seq 300); do grep -q '^emitted' /run/out && break; sleep 0.1; done
if grep -q '^emitted' /run/out; then ok "5000 events to a stopped journald do not block"; else bad "blocked by a stopped journald"; fi
read -r _ delivered dropped < <(grep '^emitted' /run/out)
[ "${dropped:-0}" -gt 0 ] && ok "what does not fit is dropped and counted ($dropped)" || bad "nothing was counted as dropped"
[ "$((${delivered:-0} + ${dropped:-0}))" -lt 5000 ] && ok "some wait" || bad "none wait"
kill -CONT $journald
wait $emit
read -r _ delivered dropped < <(grep '^ended' /run/out)
is "each event delivered or dropped" "$((delivered + dropped))" 5000
is "what was delivered is in the journal" "$(until_count $((delivered + 3)) WEIR_CLASS=flood _COMM=emit_journal)" "$((delivered + 3))"

# ---- no journald -------------------------------------------------------------------------------------
kill $journald; wait $journald 2> /dev/null; journald=
rm -f /run/systemd/journal/socket
"$EMIT" flood 1 > /run/out 2> /run/err && bad "an absent journald was not noticed" || ok "an absent journald is an error at once: $(cat /run/err)"
end $skipped
