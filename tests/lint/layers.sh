#!/bin/bash
# A layer includes only itself and the layers before it. decode knows nothing of capture (DESIGN: right of the request record
# nothing knows about eBPF); include/weir is free to all.
. "$(dirname "$0")/lib.sh"
declare -A allowed=(
	[base]="base"
	[capture]="base capture"
	[decode]="base decode"
	[detect]="base decode detect"
	[store]="base decode detect store"
	[sink]="base decode detect store sink"
	[ui]="base decode detect store sink ui"
	[cmd]="base capture decode detect store sink ui cmd"
)
for f in $(files 'src/**/*.c' 'src/**/*.h'); do
	layer=$(echo "$f" | cut -d/ -f2)
	if [ -z "${allowed[$layer]:-}" ]; then
		fail "$f: $layer is not a layer"
		continue
	fi
	bad=$(sed -n 's|^#include "\([a-z]*\)/[^"]*".*|\1|p' "$f" | sort -u | while read -r inc; do
		[ "$inc" = weir ] && continue
		[[ " ${allowed[$layer]} " == *" $inc "* ]] || echo "$inc"
	done)
	if [ -n "$bad" ]; then fail "$f: layer $layer must not include:" $bad; else pass; fi
done
# Both halves and the parsers they share: nothing of user space's layers.
for f in $(files 'include/**/*.h' 'bpf/*'); do
	if grep -nE '^#include "(base|capture|decode|detect|store|sink|ui|cmd)/' "$f"; then fail "$f: includes a layer of src/"; else pass; fi
done
lint_done
