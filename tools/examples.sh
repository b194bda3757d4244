#!/usr/bin/env bash
# Brings what `make test-examples` compares the example handlers with: hashed wheels in a virtual environment of the user's cache folder,
# about 85 MB to download and 400 MB there. Idempotent. Its last line on standard output is the folder; everything else that it says goes
# to standard error.
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
