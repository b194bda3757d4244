#!/usr/bin/env bash
# Installs Vercel's AI SDK, as its authors publish it, in the user's cache folder (npm packages with
# hashes, 26 MB on disk). Idempotent. The last line on standard output is the folder; nothing if npm
# or Node.js is missing, which fails with STRICT set. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=tests/clients/ai-sdk
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/ai-sdk-$(cat "$packages"/*.json tools/ai-sdk.sh | sha256sum | cut -c1-16)
say() { printf 'ai-sdk: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    say "npm is missing; install it (Debian's package is npm) and run this again"
    [ -z "${STRICT:-}" ] || exit 1
    exit 0
fi
mkdir -p "$cache"
exec 9>"$cache/.ai-sdk.lock"
flock 9
if [ ! -e "$made/.complete" ]; then
    say "installing into $made"
    rm -rf "$made"
    mkdir "$made"
    cp "$packages"/*.json "$made"
    (cd "$made" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) \
        || fail "npm could not install what $packages names; check the network and run this again"
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
