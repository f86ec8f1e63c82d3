#!/bin/bash
# Each header of user space compiles alone, with both compilers. A table that says "Included by X only" is none.
. "$(dirname "$0")/lib.sh"
flags='-std=c17 -Wall -Wextra -Wno-unused-function -Iinclude -Isrc -Itests -Ibuild/gen -D_GNU_SOURCE -DWEIR_VERSION="x"'
for cc in gcc clang; do
	command -v $cc > /dev/null || { skip "$cc is not installed"; continue; }
	for h in $(files 'src/**/*.h' 'include/weir/*.h'); do
		grep -q 'Included by .* only' "$h" && continue # a table, not a header
		if out=$(echo "#include \"$h\"" | $cc $flags -Werror -I. -fsyntax-only -x c - 2>&1); then pass; else fail "$cc: $h: $out"; fi
	done
done
lint_done
