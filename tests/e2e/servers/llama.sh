#!/usr/bin/env bash
# Builds llama.cpp's llama-server under DIR. usage: llama.sh DIR
# 8 minutes of two cores, 300 MB; needs cmake and g++. Done already: does nothing. DIR/bin/llama-server is the result.
# WEIR_LLAMA_SOURCE names an unpacked llama.cpp; without it, the one in PyPI's llama-cpp-python is fetched.
set -eu
dir=$1 here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$dir/complete" ] || exit 0

source=${WEIR_LLAMA_SOURCE:-}
if [ -z "$source" ]; then
	source=$dir-source
	"$here/llama_source.sh" "$source"
fi
[ -e "$source/CMakeLists.txt" ] || { echo "no llama.cpp in $source" >&2; exit 1; }
# One file that runs anywhere: no libraries of its own beside it, nothing of this CPU alone. Its web page would be fetched while it builds.
cmake -S "$source" -B "$dir/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DGGML_LLAMAFILE=OFF -DLLAMA_BUILD_TESTS=OFF \
	-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF >/dev/null
cmake --build "$dir/build" --target llama-server --parallel "${WEIR_JOBS:-2}" >/dev/null
mkdir -p "$dir/bin"
cp "$dir/build/bin/llama-server" "$dir/bin/"
rm -rf "$dir/build"
touch "$dir/complete"
