#!/bin/bash
# make accuracy in small: the baselines speak weir's events, all is scored, nothing is run twice, and the page has all its parts.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
LAB=$BUILD/weir-lab
[ -x "$WEIR" ] || { fail accuracy "$WEIR is not built (make)"; suite_end; }
[ -x "$LAB" ] || { fail accuracy "$LAB is not built (make tools)"; suite_end; }
command -v "$PYTHON" >/dev/null || { skip accuracy "$PYTHON is not installed"; suite_end; }
TOOLS=$ROOT/tools/accuracy
export PYTHONDONTWRITEBYTECODE=1
check() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then ok "$name"; else fail "$name" "$said"; fi
}
# The page is written between its marks, and the same again; every part can be left out.
ablation() {
	printf 'before\n<!-- make ablation: begin -->\nold\n<!-- make ablation: end -->\nafter\n' >"$WORK/page.md"
	local n
	for n in 1 2; do
		"$PYTHON" "$TOOLS/ablation.py" --weir "$WEIR" --lab "$LAB" --cache "$WORK/cache" --out "$WORK/page.md" --quick 2>"$WORK/err" || { cat "$WORK/err"; return 1; }
		cp "$WORK/page.md" "$WORK/page.$n"
	done
	cmp "$WORK/page.1" "$WORK/page.2" && grep -q '^before$' "$WORK/page.md" && grep -q '^after$' "$WORK/page.md" && ! grep -q '^old$' "$WORK/page.md" &&
		[ "$(grep -c '^| `' "$WORK/page.md")" -eq 6 ] && ! "$WEIR" replay --without nothing "$WORK/s/records.jsonl" 2>/dev/null
}
accuracy() { "$PYTHON" "$TOOLS/run.py" --weir "$WEIR" --lab "$LAB" --cache "$WORK/cache" --out "$WORK/accuracy.md" --quick 2>"$WORK/err" || { cat "$WORK/err"; return 1; }; }

# Six calm clients; one of them sends 200 requests in ten seconds; then half of all answers fail.
stream() {
	mkdir -p "$WORK/s" && "$PYTHON" - "$WORK/s" <<'PY'
import json, random, sys
R = random.Random(3)
with open(sys.argv[1] + "/records.jsonl", "w") as f:
    for t in range(7200):
        who = [f"10.0.0.{R.randrange(6)}" for _ in range(2)] + ["10.0.0.5"] * (20 if 5000 <= t < 5010 else 0)
        for ip in who:
            f.write(json.dumps({"timestamp": 1e9 + t, "client_ip": ip, "model_name": "m", "prompt_tokens": 100, "completion_tokens": 50, "duration_ms": 900,
                                "status": 503 if t >= 6500 and R.random() < 0.5 else 200}) + "\n")
json.dump({"start": 1e9, "end": 1e9 + 7200, "warmup": 3600}, open(sys.argv[1] + "/stream.json", "w"))
PY
}
baselines() {
	stream && "$PYTHON" "$TOOLS/baselines.py" "$WORK/s" ewma="$WORK/s/ewma" rules="$WORK/s/rules" && "$PYTHON" - "$WORK/s" <<'PY'
import json, sys
def opens(name):
    return [(e["class"], e["scope"]["value"], e["detected"] - 1e9) for e in map(json.loads, open(f"{sys.argv[1]}/{name}")) if e["event"] == "open"]
e, r = opens("ewma"), opens("rules")
assert [x[1] for x in e if 5000 <= x[2] < 5060] == ["10.0.0.5"] and len(e) < 20, e
assert [x[:2] for x in r if 5000 <= x[2] < 5060] == [("flood", "10.0.0.5")], r
assert any(x[:2] == ("error_burst", "m") and 6500 <= x[2] < 6600 for x in r), r
assert not [x for x in r if x[2] < 5000], r
PY
}
check "what the rules see" baselines

page() {
	accuracy || return 1
	"$PYTHON" - "$WORK/accuracy.md" <<'PY'
import re, sys
t = open(sys.argv[1]).read()
for h in ("Against what is asked", "Against other methods", "By class", "What the records hold", "When nothing is wrong", "The first day", "Again"):
    assert f"\n## {h}\n" in t, h
for row in ("**weir**", "hand-written rules", "each address by the minute", "tokens in 5 min"):
    assert f"| {row}" in t, row
tables = re.findall(r"(?:^\|.*\n)+", t, re.M)
assert len(tables) >= 6 and all(len({l.count("|") for l in x.splitlines()}) == 1 for x in tables), "a table with rows of different length"
PY
}
check "the page and its tables" page

again() {
	cp "$WORK/accuracy.md" "$WORK/first.md"
	accuracy && cmp "$WORK/first.md" "$WORK/accuracy.md" && ! grep -q ' runs' "$WORK/err" || return 1
	# One thing missing: that alone is made again.
	rm "$(find "$WORK/cache/events" -path '*/weir-*/clean-*' | head -n 1)"
	accuracy && cmp "$WORK/first.md" "$WORK/accuracy.md" && grep -q '1 of 1 runs' "$WORK/err"
}
check "nothing is run twice" again
check "what each part is worth" ablation

if grep -q 'SKIP isolation forest' "$WORK/err"; then
	skip "isolation forest" "no scikit-learn here"
else
	check "isolation forest" grep -q 'isolation forest (scikit-learn)' "$WORK/accuracy.md"
fi
suite_end
