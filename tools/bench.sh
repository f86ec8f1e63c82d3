#!/usr/bin/env bash
# The benchmarks: the rows of the design's budget table, measured on this machine. Never fails on a number. docs/benchmarks.md says how
# to read them. usage: tools/bench.sh [kernel ratio nginx capture cpu memory start ...]
[ "$(id -u)" -eq 0 ] || { echo "bench: attaching needs root: sudo make bench" >&2; exit 1; }
exec "${PYTHON:-python3}" "$(dirname "$0")/bench.py" "$@"
