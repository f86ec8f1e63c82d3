#!/bin/bash
# The runner itself: what it must never take for a pass. Each case is a program that behaves so.
. "$(dirname "$0")/lib.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/unit"

# expect NAME "P passed, F failed, S skipped" EXIT-STATUS: body of the program on standard input
expect() {
	local name=$1 want=$2 status=$3 got r
	rm -f "$dir"/unit/*
	{ echo '#!/bin/bash'; cat; } > "$dir/unit/test_$name"
	chmod +x "$dir/unit/test_$name"
	got=$(WEIR_BUILD=$dir WEIR_TEST_LIMIT_S=2 tests/run unit 2>&1)
	r=$?
	# The sources of this repository are not built there; that is counted as failed, once each.
	local missing
	missing=$(sed -n 's/^unit  (build) .* passed *\([0-9]*\) failed.*/\1/p' <<< "$got")
	local last p f s
	last=$(tail -n 1 <<< "$got")
	read -r p _ f _ s _ <<< "$last"
	if [ "$p passed, $((f - ${missing:-0})) failed, $s skipped" = "$want" ]; then pass; else fail "$name: '$last' less $missing, not '$want'"; fi
	if [ "$(grep -cE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' <<< "$got")" -eq 1 ]; then pass; else fail "$name: not one last line"; fi
	if [ "$r" -ne 0 ]; then pass; else fail "$name: exit status 0 although sources are not built"; fi
	if [ "$status" = named ] && ! grep -q "^failed: unit test_$name" <<< "$got"; then fail "$name: the failure is not named"; else pass; fi
}
run='[==========] Running 2 test(s).'
end='[==========] 2 test(s) run.'
expect good "2 passed, 0 failed, 0 skipped" - <<< "printf '%s\n' '$run' '[       OK ] a' '[       OK ] b' '$end'"
expect skips "1 passed, 0 failed, 1 skipped" - <<< "printf '%s\n' '$run' '[       OK ] a' '[  SKIPPED ] b' '$end'; echo '[  SKIPPED ] b' >&2"
expect fails "1 passed, 1 failed, 0 skipped" named <<< "printf '%s\n' '$run' '[       OK ] a' '[  FAILED  ] b' '$end'; exit 1"
expect crashes "1 passed, 1 failed, 0 skipped" named <<< "printf '%s\n' '$run' '[       OK ] a' '[ RUN      ] b'; kill -SEGV \$\$"
expect crashes_after "2 passed, 1 failed, 0 skipped" named <<< "printf '%s\n' '$run' '[       OK ] a' '[       OK ] b' '$end'; kill -ABRT \$\$"
expect leaks "2 passed, 1 failed, 0 skipped" named <<< "printf '%s\n' '$run' '[       OK ] a' '[       OK ] b' '$end'; exit 23"
expect group_setup "0 passed, 2 failed, 0 skipped" named <<< "printf '%s\n' '$run' '[==========] 0 test(s) run.'; exit 1"
expect hangs "0 passed, 1 failed, 0 skipped" named <<< "exec sleep 60"
expect silent "0 passed, 1 failed, 0 skipped" named <<< "exit 0"
expect empty "0 passed, 1 failed, 0 skipped" named <<< "echo '0 passed, 0 failed, 0 skipped'"
expect lies "1 passed, 1 failed, 0 skipped" named <<< "echo '1 passed, 0 failed, 0 skipped'; exit 3"
expect talks "0 passed, 1 failed, 0 skipped" named <<< "echo '3 passed, 0 failed, 0 skipped'; echo and then something else"
lint_done
