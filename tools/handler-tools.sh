#!/usr/bin/env bash
# Installs the tools that build handler components, for every language that the tests use.
# Idempotent. Downloads stay in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        printf 'handler-tools: installing Node.js from Debian\n'
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm; } >/dev/null
    else
        printf 'handler-tools: missing: nodejs npm; install them with your package manager, then run make test again\n' >&2
        exit 1
    fi
fi
exec "${CARGO_TARGET_DIR:-target}/debug/tensorgate" handler setup
