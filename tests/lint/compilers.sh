#!/bin/bash
# Every source compiles without a word under gcc and clang, with the Makefile's own warnings.
. "$(dirname "$0")/lib.sh"
warn=$(sed -n 's/^WARN *:= *//p' Makefile)
[ -n "$warn" ] || fail "no WARN in the Makefile"
[ -n "$(ls build/gen/*.skel.h 2> /dev/null)" ] || fail "no skeletons in build/gen (make)"
export warn
one() { # COMPILER FILE
	local out
	# shellcheck disable=SC2086
	if out=$($1 -std=c17 $warn -Werror -O2 -Iinclude -Isrc -Itests -Ibuild/gen -D_GNU_SOURCE -DWEIR_VERSION='"x"' -fsyntax-only "$2" 2>&1); then
		echo PASS
	else
		printf 'FAIL %s %s\n%s\n' "$1" "$2" "$out"
	fi
}
export -f one
for cc in gcc clang; do
	command -v $cc > /dev/null || { skip "$cc is not installed"; continue; }
	out=$(files 'src/**/*.c' 'tools/*.c' 'tests/unit/*.c' 'tests/fuzz/*.c' | xargs -n 1 -P 2 bash -c 'r=$(one '$cc' "$0"); echo "$r"')
	lint_passed=$((lint_passed + $(grep -c '^PASS$' <<< "$out")))
	lint_failed=$((lint_failed + $(grep -c '^FAIL' <<< "$out")))
	grep -v '^PASS$' <<< "$out"
done
lint_done
