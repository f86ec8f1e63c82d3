#!/usr/bin/env bash
# Builds Ollama with its CPU runner under DIR. usage: ollama.sh DIR
# 20 minutes of two cores, 300 MB; needs go, gcc and g++. Done already: does nothing. DIR/bin/ollama is the result.
# Where Go's checksum database cannot be reached, GOSUMDB=off does without it.
# WEIR_LLAMA_SOURCE names an unpacked llama.cpp; without it, the one in PyPI's llama-cpp-python is fetched.
set -eu
dir=$1 here=$(cd "$(dirname "$0")" && pwd)
ollama=${WEIR_OLLAMA_VERSION:-v0.17.4}
[ ! -e "$dir/complete" ] || exit 0

mkdir -p "$dir"
# A Go module's archive leaves out every folder called "vendor", and llama.cpp keeps the headers of others in one.
source=${WEIR_LLAMA_SOURCE:-}
if [ -z "$source" ]; then
	source=$(dirname "$dir")/llama-source
	"$here/llama_source.sh" "$source"
fi
[ -d "$source/vendor/nlohmann" ] || { echo "no headers in $source/vendor" >&2; exit 1; }
CGO_ENABLED=1 CGO_CPPFLAGS="-I$source/vendor" GOBIN=$dir/bin GOFLAGS="-buildvcs=false -p=${WEIR_JOBS:-2}" go install "github.com/ollama/ollama@$ollama"
touch "$dir/complete"
