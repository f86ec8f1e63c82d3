#!/bin/bash
# Functions that have no safe use here, and names of one machine.
. "$(dirname "$0")/lib.sh"
always='strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca|system|popen|tmpnam|mktemp'
product="$always|strncat|rand|srand|atoi|atol|atof|asctime|ctime|gethostbyname"
for f in $(files 'src/**/*.[ch]' 'include/**/*.h' 'tools/**/*.[ch]' 'bpf/*.[ch]'); do
	banned=$product
	[[ $f == tools/* ]] && banned=$always
	# Comments and strings do not call anything.
	hits=$(sed -e 's|//.*||' -e 's|"\([^"\\]\|\\.\)*"|""|g' "$f" | awk '
		{ line = $0; out = ""
		  while (1) {
			if (inside) { i = index(line, "*/"); if (!i) break; line = substr(line, i + 2); inside = 0 }
			i = index(line, "/*"); if (!i) { out = out line; break }
			out = out substr(line, 1, i - 1); line = substr(line, i + 2); inside = 1
		  }
		  print NR ": " out }' | grep -E "(^|[^A-Za-z0-9_>.])($banned) *\(")
	if [ -n "$hits" ]; then fail "$f: banned function: $hits"; else pass; fi
done
place="(^|[[:space:]=(:])[\"']?/(work|root)/"
for f in $(files | grep -vE '^tests/lint/banned\.sh$'); do
	grep -Iq . "$f" || continue
	if grep -qE "$place" "$f"; then
		fail "$f: names a path of one machine: $(grep -nE "$place" "$f" | head -n 3)"
	else
		pass
	fi
done
lint_done
