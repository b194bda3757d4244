#!/usr/bin/env bash
# Installs the Python packages of a part of `make test-artifacts`: artifacts.sh signing, which signs
# and verifies models (95 MB), artifacts.sh templates, which runs chat templates and, for `make
# fuzz`, renders answers (15 MB), artifacts.sh benign, which writes model files (700 MB), or
# artifacts.sh tables, which compares names (310 MB of downloads). Wheels with hashes in a virtual
# environment in the user's cache folder. Idempotent. The last line on standard output is the folder,
# in which `tables` has `torch`, sources of PyTorch. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-}
name=artifacts-$part
. tools/python.sh

case $part in
    signing | templates | tables) machine 2.28 "Debian 10, Ubuntu 18.10" ;;
    benign)
        machine 2.28 "Debian 10, Ubuntu 18.10"
        [ "$(uname -m)" = x86_64 ] || fail "x86-64 is needed; this is $(uname -m)"
        versions=(3.11)
        ;;
    *)
        echo "artifacts.sh: the part is signing, templates, benign or tables" >&2
        exit 2
        ;;
esac

# Unpacks the sources of PyTorch, which have lists of names. Its library cannot be loaded without
# gigabytes of CUDA.
torch_sources() {
    local folder=$made/download
    "$made/bin/python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
        --platform win_amd64 --python-version 3.11 --dest "$folder" -r tools/requirements-tables-torch.txt >&2 \
        || fail "pip could not bring PyTorch; check the network and run this again"
    "$made/bin/python" - "$folder"/torch-*.whl "$made" <<'END'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
    wheel.extractall(sys.argv[2], [name for name in names if name.endswith((".py", ".pyi"))])
END
    rm -rf "$folder"
}

find_python "the packages"
place tools/requirements-"$part"*.txt tools/python.sh tools/artifacts.sh
if [ ! -e "$made/.complete" ]; then
    say "installing the packages for Python $version into $made"
    environment
    wheels "tools/requirements-$part.txt"
    [ "$part" != tables ] || torch_sources
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
