#!/bin/bash
# NAB, scored and cross-validated into docs/nab.md: `make nab`, or tools/nab/run.sh [--results DIR].
#   WEIR_DATA   folder with nab/windows.json and nab/data (../shared/data)
set -eu
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/../.."
DATA=${WEIR_DATA:-$PWD/../shared/data}/nab
BUILD=${WEIR_BUILD:-build}
if [ ! -f "$DATA/windows.json" ]; then
	echo "SKIP nab: no $DATA/windows.json; say WEIR_DATA=FOLDER, where FOLDER/nab holds windows.json and data/" >&2
	exit 77
fi
[ -x "$BUILD/weir" ] || { echo "nab: $BUILD/weir is not built (make)" >&2; exit 1; }
mkdir -p "$BUILD/nab"
${CC:-cc} -std=c17 -O2 -Wall -Wextra -Iinclude -Isrc -D_GNU_SOURCE tools/nab/lab.c src/detect/series.c src/detect/tail.c -o "$BUILD/nab/nab-lab" -lm
exec "${PYTHON:-python3}" tools/nab/nab.py --data "$DATA" --weir "$BUILD/weir" --lab "$BUILD/nab/nab-lab" --page docs/nab.md "$@"
