#!/usr/bin/env bash
# Unpacks llama.cpp's source under DIR. usage: llama_source.sh DIR. Done already: does nothing.
# It is the one inside PyPI's llama-cpp-python; WEIR_LLAMA_CPP_PYTHON_VERSION names another one.
set -eu
dir=$1 version=${WEIR_LLAMA_CPP_PYTHON_VERSION:-0.3.36}
[ ! -e "$dir/CMakeLists.txt" ] || exit 0

rm -rf "$dir" "$dir.new"
mkdir -p "$dir.new/source"
# pip asks the package's own build tool for its name before it hands the archive out
"${PYTHON:-python3}" -m venv "$dir.new/pip"
"$dir.new/pip/bin/pip" --disable-pip-version-check -q install scikit-build-core
"$dir.new/pip/bin/pip" --disable-pip-version-check -q download --no-deps --no-binary :all: --no-build-isolation -d "$dir.new" "llama-cpp-python==$version"
tar xzf "$dir.new"/llama_cpp_python-*.tar.gz -C "$dir.new/source" --strip-components=3 --wildcards '*/vendor/llama.cpp/*'
mv "$dir.new/source" "$dir"
rm -rf "$dir.new"
