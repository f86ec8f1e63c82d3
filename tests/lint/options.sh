#!/bin/bash
# Each option that `weir COMMAND --help` tells of is in its man page, and the reverse; each command has a page.
. "$(dirname "$0")/lib.sh"
weir=build/weir
[ -x $weir ] || { skip "build/weir is not there"; lint_done; }
commands=$($weir --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "weir --help lists no command"
for c in $commands; do
	page=man/weir-$c.1
	if [ ! -f "$page" ]; then fail "weir $c has no man page"; continue; fi
	if grep -q "weir-$c" man/weir.1; then pass; else fail "man/weir.1 does not name weir-$c"; fi
	help=$($weir "$c" --help 2>&1 | grep -oE -- '(^|[ ,=|[])--[a-z][a-z0-9-]*' | grep -oE -- '--[a-z0-9-]+' | sort -u)
	# In the pages an option is written \-\-name; only the tagged paragraphs of OPTIONS define one.
	manual=$(grep -aE '^\.(B|BR|BI|IR|RB) ' "$page" | grep -oE -- '\\-\\-[a-z][a-z0-9\\-]*' | sed 's/\\-/-/g' | sort -u)
	if [ -z "$help" ]; then fail "weir $c --help names no option"; continue; fi
	for o in $help; do
		if grep -qxF -- "$o" <<< "$manual"; then pass; else fail "weir $c $o is not in $page"; fi
	done
	for o in $manual; do
		if grep -qxF -- "$o" <<< "$help"; then pass; else fail "$page tells of $o, which weir $c --help does not"; fi
	done
done
lint_done
