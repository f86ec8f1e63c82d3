#!/bin/bash
# Shell scripts parse, are executable where they say how to run them, and please shellcheck where it is installed.
. "$(dirname "$0")/lib.sh"
for f in $(files 'tests/*' '.ci/*' 'tools/*' 'deploy/*' | grep -vE '\.(c|h|md|py|json|html)$'); do
	head -c 64 "$f" | head -n 1 | grep -aqE '^#!.*(ba)?sh' || continue
	if bash -n "$f"; then pass; else fail "$f: does not parse"; fi
	if [ -x "$f" ]; then pass; else fail "$f: not executable"; fi
	if command -v shellcheck > /dev/null; then
		if shellcheck -S error "$f"; then pass; else fail "$f: shellcheck"; fi
	fi
done
command -v shellcheck > /dev/null || skip "shellcheck is not installed"
lint_done
