#!/usr/bin/env bash
# Builds Ollama with its CPU runner under DIR. usage: ollama.sh DIR
# 20 minutes of two cores, 300 MB; needs go, gcc and g++. Done already: does nothing. DIR/bin/ollama is the result.
# Where Go's checksum database cannot be reached, GOSUMDB=off does without it.
# WEIR_LLAMA_SOURCE names an unpacked llama.cpp; without it, the one in PyPI's llama-cpp-python is fetched.
set -eu
dir=$1
ollama=${WEIR_OLLAMA_VERSION:-v0.17.4} llama=${WEIR_LLAMA_CPP_PYTHON_VERSION:-0.3.36}
[ ! -e "$dir/complete" ] || exit 0

mkdir -p "$dir"
# A Go module's archive leaves out every folder called "vendor", and llama.cpp keeps the headers of others in one.
source=${WEIR_LLAMA_SOURCE:-}
if [ -z "$source" ]; then
	source=$dir/source
	if [ ! -d "$source/vendor/nlohmann" ]; then
		rm -rf "$dir/sdist"
		# pip asks the package's own build tool for its name before it hands the archive out
		"${PYTHON:-python3}" -m venv "$dir/pip"
		"$dir/pip/bin/pip" --disable-pip-version-check -q install scikit-build-core
		"$dir/pip/bin/pip" --disable-pip-version-check -q download --no-deps --no-binary :all: --no-build-isolation -d "$dir/sdist" "llama-cpp-python==$llama"
		mkdir -p "$source"
		tar xzf "$dir"/sdist/llama_cpp_python-*.tar.gz -C "$source" --strip-components=3 --wildcards '*/vendor/llama.cpp/vendor/*'
		rm -rf "$dir/sdist" "$dir/pip"
	fi
fi
[ -d "$source/vendor/nlohmann" ] || { echo "no headers in $source/vendor" >&2; exit 1; }
CGO_ENABLED=1 CGO_CPPFLAGS="-I$source/vendor" GOBIN=$dir/bin GOFLAGS="-buildvcs=false -p=${WEIR_JOBS:-2}" go install "github.com/ollama/ollama@$ollama"
touch "$dir/complete"
