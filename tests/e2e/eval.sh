#!/bin/bash
# weir eval, from outside: options, bad input, and hundreds of random sets judged twice: here and by the judge's scorer.
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

if [ -r "$SCORE" ]; then
	agree() { "$PYTHON" "$E2E/eval_agree.py" "$WEIR" "$SCORE" "$WORK/sets" "${WEIR_SCORE_SETS:-400}"; }
	check "the judge's scorer says the same" agree
else
	skip "the judge's scorer says the same" "no score.py at $SCORE (WEIR_SCORE)"
fi

suite_end
