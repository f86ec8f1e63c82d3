#!/bin/bash
# Every source compiles without a word under gcc and clang, with the Makefile's own warnings.
. "$(dirname "$0")/lib.sh"
warn=$(sed -n 's/^WARN *:= *//p' Makefile)
[ -n "$warn" ] || fail "no WARN in the Makefile"
export warn
one() {
	out=$($1 -std=c17 $warn -Werror -O2 -Iinclude -Isrc -Itests -Ibuild/gen -D_GNU_SOURCE -DWEIR_VERSION='"x"' -fsyntax-only "$2" 2>&1) && exit 0
	echo "FAIL $1 $2"
	echo "$out"
	exit 1
}
export -f one
for cc in gcc clang; do
	command -v $cc > /dev/null || { skip "$cc is not installed"; continue; }
	while read -r f; do
		printf '%s\0%s\0' $cc "$f"
	done < <(files 'src/**/*.c' 'tools/*.c' 'tests/unit/*.c') | xargs -0 -n 2 -P 2 bash -c 'one "$0" "$1" > /tmp/weir-lint.$$ 2>&1; r=$?; cat /tmp/weir-lint.$$; rm -f /tmp/weir-lint.$$; [ $r -eq 0 ] && echo PASS' > build/test-output/compilers.$cc
	lint_passed=$((lint_passed + $(grep -c '^PASS$' build/test-output/compilers.$cc)))
	lint_failed=$((lint_failed + $(grep -c '^FAIL' build/test-output/compilers.$cc)))
	grep -v '^PASS$' build/test-output/compilers.$cc
done
lint_done
