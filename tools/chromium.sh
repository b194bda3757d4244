#!/usr/bin/env bash
# Finds Chromium, in which the console is tested: the one named by $CHROMIUM, or one on PATH, or
# Debian's package, which root installs (100 MB of downloads, 350 MB on disk). It has no pinned
# version, because Debian replaces it with each security release. The last line on standard output is
# the path. Everything else goes to standard error. If there is none, it prints no path, and with
# STRICT=1 it fails.
set -euo pipefail

say() { printf 'chromium: %s\n' "$*" >&2; }
fail() {
    say "$*; install Chromium (Debian's package is chromium), or name one in CHROMIUM"
    [ "${STRICT:-}" != 1 ]
    exit
}

# answer PROGRAM: prints its path if it runs.
answer() {
    "$1" --version >/dev/null 2>&1 || fail "$1 does not run"
    printf '%s\n' "$1"
    exit 0
}
[ -z "${CHROMIUM:-}" ] || answer "$CHROMIUM"
! found=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || answer "$found"

command -v apt-get >/dev/null || fail "this system has no apt-get"
[ "$(id -u)" = 0 ] || fail "only root can install Debian's package"
say "installing chromium from Debian"
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; }
install || { apt-get update -qq >/dev/null 2>&1 && install; } || fail "apt-get could not install chromium"
answer "$(command -v chromium)"
