#!/usr/bin/env bash
# Brings the servers of `make test-servers`, as their makers publish them: hashed wheels, each in a virtual environment of its own in the user's cache
# folder, about 2.5 GB there in all, of which Triton, MLServer, KServe and the clients are those of `make bench` and `make test-clients`. Idempotent. A
# server that cannot be had is left out, with a line that says why; TorchServe takes Java and PyTorch from the system, and installs neither. Its last
# line on standard output is a folder with a link for each server, and NAME.missing for each that is not there.
set -uo pipefail
cd "$(dirname "$0")/.."

name=servers
. tools/python.sh

machine 2.34 "Debian 12, Ubuntu 22.04"
find_python "the servers"
all=$cache/servers
mkdir -p "$all"

# have NAME FOLDER
have() { ln -sfn "$2" "$all/$1" && rm -f "$all/$1.missing"; }

# lack NAME WHY
lack() {
    rm -f "$all/$1"
    printf '%s\n' "$2" >"$all/$1.missing"
    say "$1 is left out: $2"
}

# An environment of one list; its folder.
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

# TorchServe beside the system's own PyTorch, whose Python it needs: an environment that sees the system's packages. $1 is a Python with pip.
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

# Why TorchServe cannot run here; nothing if it can.
torchserve_lacks() {
    local python=${TENSORGATE_TORCH_PYTHON:-/usr/bin/python3} java
    java=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    if [ "${java:-0}" -lt 17 ]; then
        echo "it needs Java 17 or later: apt-get install openjdk-17-jre-headless"
    elif ! "$python" -c 'import torch, numpy' 2>/dev/null; then
        echo "it needs PyTorch for $python: apt-get install python3-torch (or name another Python in TENSORGATE_TORCH_PYTHON)"
    fi
}

# The clients hold what asks, and TF Serving's messages.
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
