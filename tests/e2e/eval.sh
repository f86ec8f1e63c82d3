#!/bin/bash
# weir eval, from outside: options, bad input, calibration, and hundreds of random sets judged twice: here and by the judge's scorer.
#   WEIR_SCORE        path of score.py (../shared/score/score.py)
#   WEIR_SCORE_SETS   how many sets are compared with it (400)
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
[ -x "$WEIR" ] || { fail eval "$WEIR is not built (make)"; suite_end; }
command -v "$PYTHON" >/dev/null || { skip eval "$PYTHON is not installed"; suite_end; }
SCORE=${WEIR_SCORE:-$ROOT/../shared/score/score.py}
L=$WORK/labels.json
E=$WORK/events.jsonl

echo '{"start":0,"end":86400,"warmup":0}' >"$WORK/stream.json"
echo '[{"id":"1","class":"flood","scope":{"kind":"client_ip","value":"192.0.2.7"},"actors":{},"start":1000,"end":1300,"intensity":5,"benign":false,"accept":null,"note":""}]' >"$L"
{
	echo '{"event":"open","id":"a","detected":1004,"class":"flood","severity":"critical","scope":{"kind":"client_ip","value":"192.0.2.7"}}'
	echo '{"event":"open","id":"b","detected":9000,"class":"ddos","severity":"warning","scope":{"kind":"global","value":""}}'
} >"$E"

evaluate() { "$WEIR" eval "$@" 2>"$WORK/err"; }
check() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then ok "$name"; else fail "$name" "$said $(head -c 400 "$WORK/err" 2>/dev/null)"; fi
}

figures() {
	evaluate --labels "$L" --events "$E" --json >"$WORK/a" && [ ! -s "$WORK/err" ] && "$PYTHON" - "$WORK/a" <<'PY'
import json, sys
o = json.load(open(sys.argv[1]))
assert o["macro_f1"] == 1 and o["recall_any"] == 1 and o["delay_volumetric_3x_s"]["p95"] == 4 and o["false_warnings_per_day"] == 1, o
assert o["classes"]["ddos"]["fp"] == 1 and o["confusion"] == {"flood": {"flood": 1}, "none": {"ddos": 1}}, o
assert o["f1_any"] == 0.6667 and o["bootstrap"]["units"] == 24, o
PY
}
check "figures of a small case" figures

people() {
	evaluate --labels "$L" --events "$E" >"$WORK/a" && grep -q '^  macro-F1, right class  *1.000' "$WORK/a" && grep -q '^flood  *1  *1  *0  *0 ' "$WORK/a" &&
		[ "$(wc -L <"$WORK/a")" -le 160 ]
}
check "a table for people" people

same_bytes() {
	evaluate --labels "$L" --events "$E" --json >"$WORK/a" && evaluate --events "$E" --json --labels "$L" >"$WORK/b" && cmp "$WORK/a" "$WORK/b" &&
		evaluate --labels "$L" "$L" --events "$E" --events "$E" --json | grep -q '"streams":2,'
}
check "same input, same bytes; files in either order" same_bytes

usage() {
	local args
	printf 'rubbish\n' >"$WORK/rubbish"
	echo '[{"id":"1","class":"flood","start":9}]' >"$WORK/broken.json"
	for args in "" "--labels $L" "--events $E" "--labels $L $L --events $E" "--labels $L --events $E --nonsense" "--labels $L --events $E --json more" "--labels $L --events $E --warmup x" \
		"--labels $L --events $E --resamples -1" "--labels $L --events $E --resamples 1e9" "--labels $L --events" "$L" "--labels $WORK/none --events $E" "--labels $L --events $WORK/none" \
		"--labels $E --events $E" "--labels $WORK/broken.json --events $E" "--labels $L --events $WORK" "--labels $WORK --events $E"; do
		# shellcheck disable=SC2086
		evaluate $args >"$WORK/a"
		[ $? -eq 2 ] && [ "$(wc -l <"$WORK/err")" -eq 1 ] && [ ! -s "$WORK/a" ] || { echo "eval $args"; return 1; }
	done
	evaluate --labels "$WORK/broken.json" --events "$E"
	grep -q 'broken.json: label 0: end is missing' "$WORK/err" || return 1
	evaluate --labels "$L" --events "$WORK/rubbish"
	[ $? -eq 2 ] && tail -n 1 "$WORK/err" | grep -q 'rubbish:1: no event here' || return 1
	"$WEIR" eval --help | grep -q -- --resamples
}
check "bad options and files: one line, exit 2" usage

full_disk() { [ -w /dev/full ] || return 0; evaluate --labels "$L" --events "$E" >/dev/full; [ $? -eq 1 ]; }
check "figures that cannot be written are an error" full_disk

# Three calm hours of six customers at two models, of which one minute fails: what a user's own file may look like.
"$PYTHON" - "$WORK/calm.jsonl" <<'PY'
import json, random, sys
R = random.Random(9)
with open(sys.argv[1], "w") as f:
    for t in range(0, 10800):
        for _ in range(R.choice((1, 2, 2, 3))):
            c = R.randrange(6)
            f.write(json.dumps({"timestamp": 1767225600 + t + round(R.random(), 3), "client_ip": f"10.0.0.{c}", "api_key": f"k{c}", "model_name": "m1" if R.random() < 0.7 else "m2",
                                "prompt_tokens": R.randrange(50, 900), "completion_tokens": R.randrange(20, 300), "status": 503 if 9000 <= t < 9060 and R.random() < 0.6 else 200,
                                "ttft_ms": R.randrange(80, 300), "duration_ms": R.randrange(400, 4000)}) + "\n")
PY
calibrate() {
	evaluate --calibrate --false-per-week 20 --json "$WORK/calm.jsonl" >"$WORK/a" && "$PYTHON" - "$WORK/a" <<'PY' || return 1
import json, sys
o = json.load(open(sys.argv[1]))
rows = {}
for t in o["trials"]:
    rows.setdefault(t["attack"], []).append(t)
assert set(rows) == {"flood", "ddos", "cost_spike", "latency_regression", "error_burst", "traffic_drop"}, rows.keys()
assert all(0 <= t["right"] <= t["seen"] <= t["times"] <= 4 and t["above_score"] <= t["seen"] for r in rows.values() for t in r), o
# Ten times the usual from one address does not go unseen, and a flood is called one; nobody sees half as much again.
assert o["smallest_half_the_time"]["flood"] in (2, 3, 5, 10), o["smallest_half_the_time"]
assert rows["flood"][-1]["right"] == rows["flood"][-1]["seen"] > 0 and rows["flood"][-1]["delay_p50_s"] <= 120, rows["flood"]
assert o["records"] > 18000 and o["learning_s"] == 2160, o
seen = sum(o["false_alarms"][s]["seen"] for s in ("warning", "critical"))
# 20 in a week are a quarter of one in 2.4 hours: nothing can be proposed.
assert o["proposal"]["expected"]["seen"] == seen and not o["proposal"]["founded"] and o["proposal"]["scores"] == {} and o["false_alarms"]["warning"]["high"] > 0, o
PY
	# One may ring; should more have done so, their classes pay, and the flood is seen as before.
	evaluate --calibrate --false-per-week 80 --json "$WORK/calm.jsonl" >"$WORK/c" && "$PYTHON" - "$WORK/a" "$WORK/c" <<'PY' || return 1
import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
p = b["proposal"]
assert p["founded"] and p["expected"]["seen"] <= 1 and "flood" not in p["scores"], p
# Three hours say nothing of how often it nearly rang in a week.
assert p["sensitivity"] is None, p
assert a["smallest_half_the_time"]["flood"] == b["smallest_half_the_time"]["flood"], (a, b)
PY
	evaluate --calibrate "$WORK/calm.jsonl" >"$WORK/b" && grep -q 'The smallest that rings' "$WORK/b" && [ ! -s "$WORK/err" ] || return 1
	evaluate --json --calibrate --false-per-week 20 "$WORK/calm.jsonl" | cmp - "$WORK/a"
}
check "what to expect on one's own records" calibrate

calibrate_usage() {
	local args
	head -n 100 "$WORK/calm.jsonl" >"$WORK/short.jsonl"
	: >"$WORK/empty.jsonl"
	for args in "--calibrate" "--calibrate -" "--calibrate $WORK/none" "--calibrate $WORK/short.jsonl" "--calibrate $WORK/empty.jsonl" "--calibrate --false-per-week x $WORK/calm.jsonl" \
		"--calibrate $WORK/calm.jsonl $WORK/calm.jsonl" "--calibrate $WORK/calm.jsonl --labels $L --events $E" "--series $WORK/none" "--series $E --json" "--series"; do
		# shellcheck disable=SC2086
		evaluate $args >"$WORK/a"
		[ $? -eq 2 ] && [ "$(wc -l <"$WORK/err")" -eq 1 ] && [ ! -s "$WORK/a" ] || { echo "eval $args: $(cat "$WORK/err")"; return 1; }
	done
}
check "calibration refuses what it cannot use" calibrate_usage

if [ -r "$SCORE" ]; then
	agree() { "$PYTHON" "$E2E/eval_agree.py" "$WEIR" "$SCORE" "$WORK/sets" "${WEIR_SCORE_SETS:-400}"; }
	check "the judge's scorer says the same" agree
else
	skip "the judge's scorer says the same" "no score.py at $SCORE (WEIR_SCORE)"
fi

suite_end
