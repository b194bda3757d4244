#!/usr/bin/env bash
# Installs the Python packages of a part of `make test-artifacts`: artifacts.sh signing, which signs
# and verifies models (95 MB), artifacts.sh templates, which runs chat templates and, for `make
# fuzz`, renders answers (15 MB), or artifacts.sh benign, which writes model files (700 MB). Wheels
# with hashes in a virtual environment in the user's cache folder. Idempotent. The last line on
# standard output is the folder. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-}
name=artifacts-$part
. tools/python.sh

case $part in
    signing | templates) machine 2.28 "Debian 10, Ubuntu 18.10" ;;
    benign)
        machine 2.28 "Debian 10, Ubuntu 18.10"
        [ "$(uname -m)" = x86_64 ] || fail "x86-64 is needed; this is $(uname -m)"
        versions=(3.11)
        ;;
    *)
        echo "artifacts.sh: the part is signing, templates or benign" >&2
        exit 2
        ;;
esac
find_python "the packages"
place "tools/requirements-$part.txt" tools/python.sh tools/artifacts.sh
if [ ! -e "$made/.complete" ]; then
    say "installing the packages for Python $version into $made"
    environment
    wheels "tools/requirements-$part.txt"
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
