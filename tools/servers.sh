#!/usr/bin/env bash
# Installs the servers of `make test-servers`, as their authors publish them: wheels with hashes,
# one virtual environment for each server in the user's cache folder (2.5 GB in all). Triton,
# MLServer, KServe and the clients are those of `make bench` and `make test-clients`. Idempotent.
#
# A server that cannot be installed is left out, with a line that says why. TorchServe uses the
# system's Java and PyTorch. The last line on standard output is a folder with a link for each
# server, and NAME.missing for each that is not available.
set -uo pipefail
cd "$(dirname "$0")/.."

name=servers
. tools/python.sh

machine 2.34 "Debian 12, Ubuntu 22.04"
find_python "the servers"
all=$cache/servers
mkdir -p "$all"

# have NAME FOLDER: links an installed server.
have() { ln -sfn "$2" "$all/$1" && rm -f "$all/$1.missing"; }

# lack NAME WHY: records why a server is missing.
lack() {
    rm -f "$all/$1"
    printf '%s\n' "$2" >"$all/$1.missing"
    say "$1 is left out: $2"
}

# Makes an environment from one list and prints its folder.
environment_of() (
    name=servers-$1
    list=tools/requirements-servers-$1.txt
    place "$list" tools/python.sh tools/servers.sh
    if [ ! -e "$made/.complete" ]; then
        say "installing into $made"
        environment
        wheels "$list"
        : >"$made/.complete"
    fi
    printf '%s\n' "$made"
)

# TorchServe with the system's PyTorch: an environment that sees the system's packages. $1 is a
# Python with pip.
torchserve() (
    name=servers-torchserve
    list=tools/requirements-servers-torchserve.txt
    python=${TENSORGATE_TORCH_PYTHON:-/usr/bin/python3}
    place "$list" tools/python.sh tools/servers.sh
    if [ ! -e "$made/.complete" ]; then
        say "installing into $made"
        rm -rf "$made"
        "$python" -m venv --system-site-packages --without-pip "$made" || fail "$python -m venv does not work"
        "$1" -m pip --python "$made/bin/python" install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r "$list" >&2 \
            || fail "pip could not install what $list names; check the network and run this again"
        : >"$made/.complete"
    fi
    printf '%s\n' "$made"
)

# Prints why TorchServe cannot run here; nothing if it can.
torchserve_lacks() {
    local python=${TENSORGATE_TORCH_PYTHON:-/usr/bin/python3} java
    java=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    if [ "${java:-0}" -lt 17 ]; then
        echo "it needs Java 17 or later: apt-get install openjdk-17-jre-headless"
    elif ! "$python" -c 'import torch, numpy' 2>/dev/null; then
        echo "it needs PyTorch for $python: apt-get install python3-torch (or name another Python in TENSORGATE_TORCH_PYTHON)"
    fi
}

# The clients' environment has the client that sends requests, and TF Serving's messages.
clients=$(tools/clients.sh) || fail "nothing can ask without the clients"
have tf-stand-in "$clients"

tools/bench-peers.sh >&2
for peer in triton mlserver kserve; do
    if [ -x "$cache/bench-$peer/bin/python" ]; then
        have "$peer" "$(readlink -f "$cache/bench-$peer")"
    else
        lack "$peer" "it could not be installed (MLServer's and KServe's lists are for CPython 3.11 on x86-64)"
    fi
done
for server in bentoml ray llama; do
    if made=$(environment_of "$server"); then have "$server" "$made"; else lack "$server" "it could not be installed"; fi
done
why=$(torchserve_lacks)
if [ -n "$why" ]; then
    lack torchserve "$why"
elif made=$(torchserve "$clients/bin/python"); then
    have torchserve "$made"
else
    lack torchserve "it could not be installed"
fi
printf '%s\n' "$all"
