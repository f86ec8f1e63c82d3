#!/bin/bash
# The past does not change, and the same input gives the same bytes: on small streams of the traffic lab in the shapes that records
# come in (in the order of completion, shuffled, CSV, with few fields, without keys).
#   WEIR_CAUSAL_CUTS   cuts of each stream (20)
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
LAB=$BUILD/weir-lab
[ -x "$WEIR" ] || { fail causal "$WEIR is not built (make)"; suite_end; }
[ -x "$LAB" ] || { fail causal "$LAB is not built (make tools)"; suite_end; }
command -v "$PYTHON" >/dev/null || { skip causal "$PYTHON is not installed"; suite_end; }

seed=40
for profile in full completion shuffled csv five nokeys; do
	seed=$((seed + 1))
	dir=$WORK/$profile
	name="the past does not change: $profile"
	if ! said=$("$LAB" make --seed $seed --kind cold --days 0.25 --records 30000 --profile $profile --out "$dir" 2>&1); then
		fail "$name" "weir-lab: $said"
		continue
	fi
	if said=$("$PYTHON" "$E2E/causal.py" "$WEIR" "$dir"/records.* "${WEIR_CAUSAL_CUTS:-20}" $seed 2>&1); then
		ok "$name ($said)"
	else
		fail "$name" "$said"
	fi
	rm -rf "$dir"
done
suite_end
