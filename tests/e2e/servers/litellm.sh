#!/usr/bin/env bash
# Installs LiteLLM's proxy under DIR. usage: litellm.sh DIR
# 2 minutes, 750 MB. Done already: does nothing. DIR/bin/litellm is the result.
set -eu
dir=$1
[ ! -e "$dir/complete" ] || exit 0

mkdir -p "$dir"
[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/python" -m pip --disable-pip-version-check --quiet install --no-cache-dir "litellm[proxy]${WEIR_LITELLM_VERSION:+==$WEIR_LITELLM_VERSION}" hypercorn
touch "$dir/complete"
