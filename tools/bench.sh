#!/usr/bin/env bash
# The benchmarks: the rows of the design's budget table, measured on this machine. Never fails on a number. docs/benchmarks.md says how
# to read them. usage: tools/bench.sh [packets tls kernel ratio nginx capture cpu memory start forest ...]
[ "$(id -u)" -eq 0 ] || { echo "bench: attaching needs root: sudo make bench" >&2; exit 1; }
here=$(dirname "$0")
case " ${*:-packets} " in
*' packets '*)
	# One packet at a time through BPF_PROG_TEST_RUN, and the verifier's counts.
	"${WEIR_BUILD:-$here/../build}"/bpftest/bench_meter
	echo
	;;
esac
case " $* " in
*' tls '*)
	# One call of a TLS library after another, on a library that does nothing itself.
	"${WEIR_BUILD:-$here/../build}"/bpftest/bench_tls
	echo
	;;
esac
case " $* " in
*' forest '*)
	# The isolation forest alone, in CPU time.
	"${PYTHON:-python3}" "$here/forest-compare.py" bench
	echo
	;;
esac
rows=()
for r in "$@"; do [ "$r" = packets ] || [ "$r" = tls ] || [ "$r" = forest ] || rows+=("$r"); done
[ "$#" -gt 0 ] && [ "${#rows[@]}" -eq 0 ] && exit 0
exec "${PYTHON:-python3}" "$here/bench.py" "${rows[@]}"
