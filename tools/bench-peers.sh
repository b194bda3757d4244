#!/usr/bin/env bash
# Installs what `make bench` compares with, model servers and CPython with libraries, into the
# user's cache folder, from lists of names and hashes. A peer that cannot be installed is not an
# error: the bench names the rows without it. `BENCH_PEERS=none` installs nothing. With the argument
# `scan` it installs the scanners that `make bench-scan` compares with, and nothing else.
set -uo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate

say() { printf 'bench-peers: %s\n' "$*"; }

# install NAME: makes a virtual environment from bench/peers/requirements-NAME.txt. Each content of
# the list has a folder of its own.
install() {
    local name=$1 list=bench/peers/requirements-$1.txt
    local made
    made=$cache/$name-$(sha256sum "$list" | cut -c1-16)
    exec 9>"$cache/.bench-$name.lock"
    flock 9
    if [ ! -e "$made/.complete" ]; then
        say "installing $name into $made"
        rm -rf "$made"
        if python3 -m venv "$made" && "$made/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --require-hashes --only-binary=:all: -r "$list"; then
            : >"$made/.complete"
        else
            rm -rf "$made"
            say "$name could not be installed; its rows will say so"
            flock -u 9
            return
        fi
    fi
    ln -sfn "$made" "$cache/bench-$name"
    flock -u 9
    say "$name is ready"
}

[ "${BENCH_PEERS:-all}" = all ] || exit 0
mkdir -p "$cache"
if [ "${1:-}" = scan ]; then
    install scan
    exit
fi
install python
install kserve
install mlserver

# Triton, as its own tests install it.
if [ -x tools/triton.sh ] && made=$(tools/triton.sh); then
    ln -sfn "$made" "$cache/bench-triton"
    say "triton is ready"
else
    say "triton could not be installed; its rows will say so"
fi
