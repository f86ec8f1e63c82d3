#!/bin/bash
# The traffic lab against the whole path: what it sends arrives in the kernel's counters and in the records, what its labels
# tell of is there, and a flood is an incident.
. "$(dirname "$0")/lib.sh"
LAB=$BUILD/weir-lab

# What needs no root: a stream in real time through replay, without a bad line, and the same bytes twice.
stream() {
	case_wanted stream || return 0
	local said
	[ -x "$LAB" ] || { fail stream "$LAB is not built (make)"; return; }
	said=$("$LAB" stream --seed 5 --profile full --rate 20 --speed 30 --limit 4 --out "$WORK/stream" | "$WEIR" replay --output json - 2>&1 >/dev/null | tail -1)
	if [[ $said =~ stdin:\ ([0-9]+)\ lines,\ 0\ bad,\ 0\ bad\ values ]] && [ "${BASH_REMATCH[1]}" -gt 200 ] && jq -e '.records > 200 and .end > .start' "$WORK/stream/stream.json" >/dev/null; then
		ok stream
	else
		fail stream "$said"
	fi
}
stream

if [ "$(id -u)" -ne 0 ]; then skip live "needs root to attach"; suite_end; fi
[ -x "$MODELSERVER" ] || { fail live "$MODELSERVER is not built (make)"; suite_end; }

# live NAME SEED PROGRAM LAB_OPTIONS...: traffic with attacks of one class while weir watches. The counters hold every request that
# was sent; PROGRAM (jq, over {tag, in, before}: the label, the records in its window, those before the first one) must be true for a label.
live() {
	local name=$1 seed=$2 program=$3 dir=$WORK/$1 sent counted
	shift 3
	case_wanted "$name" || return 0
	modelserver_start --chaos --threads 2 --tokens-per-s 400 --first-token-ms 10 --key-prefix sk- --model alpha --model beta ||
		{ fail "$name" "the model server did not start"; return; }
	weir_start --port "$PORT" || { fail "$name" "weir did not attach: $(tail -2 "$WEIR_LOG")"; server_end; return; }
	if ! "$LAB" live --server "http://127.0.0.1:$PORT" --seed "$seed" --token-scale 0.03 --out "$dir" "$@" 2>"$WORK/lab.log"; then
		fail "$name" "weir-lab: $(cat "$WORK/lab.log")"
		weir_stop >/dev/null
		server_end
		return
	fi
	settle
	sent=$(sed -n 's/.*: \([0-9]*\) requests sent.*/\1/p' "$WORK/lab.log")
	# The lab's own questions come from 127.0.0.1: chaos, models.
	counted=$(weir_clients | jq -s 'map(select(.client_ip != "127.0.0.1") | .requests) | add')
	weir_stop >"$WORK/stop" || { fail "$name" "$(cat "$WORK/stop")"; server_end; return; }
	server_end
	jq -s --slurpfile labels "$dir/labels.json" '. as $all | ($labels[0] | map(select(.class != "natural_shift"))) as $labels | ($labels | map(.start) | min) as $first |
		[$labels[] | . as $l | {tag: $l, in: ($all | map(select(.timestamp >= $l.start and .timestamp < $l.end and .kind != "control"))),
		before: ($all | map(select(.timestamp < $first and .kind != "control")))}]' "$RECORDS" >"$WORK/windows.json" || : >"$WORK/windows.json"
	cp "$WEIR_OUT" "$dir/events.jsonl"
	if [ "$sent" != "$counted" ]; then
		fail "$name" "$sent requests were sent, $counted counted"
	elif ! [ -s "$WORK/windows.json" ] || ! jq -e 'length > 0' "$WORK/windows.json" >/dev/null; then
		fail "$name" "no label"
	elif ! jq -e "def median: sort | .[length / 2 | floor]; any($program)" "$WORK/windows.json" >/dev/null; then
		fail "$name" "the labels are not in the records: $(jq -c '.[] | [.tag.class, .tag.note, .tag.intensity, (.in | length), (.before | length)]' "$WORK/windows.json")"
	else
		ok "$name"
	fi
}

# Each takes a minute and a half, and mostly waits: all at once, each a run of this script with that one case.
if [ -z "${WEIR_E2E_CASE:-}" ]; then
	cases=(flood latency errors)
	for i in "${!cases[@]}"; do
		WEIR_E2E_CASE=${cases[i]} WEIR_TEST_PORT=$((24000 + 1000 * i)) "$0" >"$WORK/${cases[i]}.out" 2>"$WORK/${cases[i]}.err" &
		PIDS+=($!)
		running[i]=$!
	done
	for i in "${!cases[@]}"; do
		wait "${running[i]}"
		cat "$WORK/${cases[i]}.err" >&2
		if read -r p _ f _ s _ < <(tail -n 1 "$WORK/${cases[i]}.out") && [[ $p$f$s =~ ^[0-9]+$ ]] && [ $((p + f + s)) -gt 0 ]; then
			head -n -1 "$WORK/${cases[i]}.out"
			PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
		else
			fail "${cases[i]}" "did not say what it did: $(tail -n 3 "$WORK/${cases[i]}.out" "$WORK/${cases[i]}.err")"
		fi
	done
	suite_end
fi

# The flooders' own requests are there, and somebody said so in time.
live flood 3 '.[]; .tag as $l | (.in | map(select(.client_ip as $ip | $l.actors.client_ip | index($ip))) | length) > 100' --only flood --days 0.001 --rate 15
if case_wanted flood; then
	if jq -se --slurpfile labels "$WORK/flood/labels.json" 'any(.[]; . as $e | $e.event == "open" and ($labels[0] | any(.class == "flood" and $e.detected >= .start and $e.detected <= .end + 120)))' \
		"$WORK/flood/events.jsonl" >/dev/null; then
		ok flood-incident
	else
		fail flood-incident "no incident: $(jq -c '[.event, .class, .detected]' "$WORK/flood/events.jsonl" | head -5) for $(jq -c '.[] | [.class, .start, .end, .intensity]' "$WORK/flood/labels.json")"
	fi
fi
# Every answer of the slow model waits for what was injected.
live latency 4 '.[]; (.in | map(select(.model_name == "alpha") | .ttft_ms // empty)) as $in | (.before | map(select(.model_name == "alpha") | .ttft_ms // empty)) as $before | ($in | length) > 20 and ($before | length) > 20 and ($in | median) > 1.25 * ($before | median)' \
	--only latency_regression --days 0.001 --rate 15
live errors 6 '.[]; .tag as $l | ((.in | map(select(.status >= 500 or .finish_reason == "error")) | length) > 0.5 * 0.05 * $l.intensity * (.in | length) * 0.5) and (.before | map(select(.status >= 500)) | length) * 20 <= (.before | length)' \
	--only error_burst --days 0.001 --rate 15

suite_end
