#!/bin/bash
# The journal's catalog has one entry for each MESSAGE_ID in src/sink/journal.c, in a form that journalctl takes.
. "$(dirname "$0")/lib.sh"
catalog=deploy/journal/weir.catalog
table=$(sed -n 's/^\t\[CLASS_\([A-Z_]*\)\] = "\([0-9a-f]\{32\}\)",$/\2 \L\1/p' src/sink/journal.c)
[ "$(wc -l <<< "$table")" -ge 14 ] || fail "cannot read the table in src/sink/journal.c"
while read -r id class; do
	if grep -qx -- "-- $id" $catalog; then pass; else fail "$catalog: no entry $id ($class)"; continue; fi
	if awk -v id="-- $id" '$0 == id { in_it = 1; next } /^-- / { in_it = 0 } in_it' $catalog | grep -q "^Subject:.*\b$class\b"; then
		pass
	else
		fail "$catalog: the subject of $id does not name $class"
	fi
	if grep -q "^## $class\$" docs/runbooks.md; then pass; else fail "docs/runbooks.md: no section $class"; fi
done <<< "$table"
for id in $(sed -n 's/^-- \([0-9a-f]*\)$/\1/p' $catalog); do
	if grep -q "$id" <<< "$table"; then pass; else fail "$catalog: $id belongs to no class"; fi
done
if command -v journalctl > /dev/null; then
	dir=$(mktemp -d)
	mkdir -p "$dir/usr/lib/systemd/catalog" "$dir/var/lib/systemd/catalog"
	cp $catalog "$dir/usr/lib/systemd/catalog/"
	if out=$(journalctl --root="$dir" --update-catalog 2>&1); then pass; else fail "journalctl --update-catalog: $out"; fi
	n=$(journalctl --root="$dir" --list-catalog 2> /dev/null | grep -c weir)
	if [ "$n" -ge 14 ]; then pass; else fail "journalctl lists $n entries"; fi
	rm -rf "$dir"
else
	skip "journalctl is not installed"
fi
lint_done
