#!/usr/bin/env bash
# Every variant of the meter counts the same as the others and as the server: the two that run in the kernel, and the one in user
# space that older kernels need. The cases are embedded.sh's own.
. "$(dirname "$0")/lib.sh"
suite_needs ss

for variant in bpf_loop tap; do
	if ! "$WEIR" run --port 9 --duration 0.1 --variant $variant --socket "$WORK/sock" 2>"$WORK/try.log"; then
		skip "$variant" "this kernel refuses it: $(tail -1 "$WORK/try.log")"
		continue
	fi
	for case in kinds errors pipelined bodies unicode forged prompt-blind; do
		out=$(WEIR_E2E_CASE=$case WEIR_OPTIONS="--variant $variant" "$E2E/embedded.sh" 2>&1)
		case $out in
		"ok $case"$'\n'*) ok "$variant-$case" ;;
		*) fail "$variant-$case" "$out" ;;
		esac
	done
done
suite_end
