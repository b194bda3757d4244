#!/usr/bin/env bash
# Installs the libraries that `make test-examples` compares the example handlers with: wheels with
# hashes in a virtual environment in the user's cache folder (85 MB of downloads, 400 MB on disk).
# Idempotent. The last line on standard output is the folder. Everything else goes to standard
# error.
set -euo pipefail
cd "$(dirname "$0")/.."

name=examples
. tools/python.sh

machine 2.28 "Debian 10, Ubuntu 18.10"
find_python "the reference"
place tools/requirements-examples.txt tools/python.sh tools/examples.sh
if [ ! -e "$made/.complete" ]; then
    say "installing numpy, Pillow, tokenizers and scikit-learn for Python $version into $made"
    environment
    wheels tools/requirements-examples.txt
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
