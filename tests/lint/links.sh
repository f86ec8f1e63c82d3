#!/bin/bash
# Files that the documents point at are there.
. "$(dirname "$0")/lib.sh"
for f in $(files '*.md' 'docs/*.md'); do
	for to in $(grep -oE '\]\([^)#]+[^)]*\)' "$f" | sed 's/^](//; s/)$//; s/#.*//' | grep -v '^[a-z]*:'); do
		if [ -e "$(dirname "$f")/$to" ]; then pass; else fail "$f points at $to, which is not there"; fi
	done
	for to in $(grep -oE '`[A-Za-z0-9_./-]+/[A-Za-z0-9_./-]*`' "$f" | tr -d '`' | grep -E '^(src|bpf|include|tests|tools|docs|man|deploy)/'); do
		if [ -e "$to" ] || [[ $to == build/* ]]; then pass; else fail "$f names $to, which is not there"; fi
	done
done
lint_done
