#!/usr/bin/env bash
# Finds a registry for the tests of `tensorgate handler push`: the one named by $DOCKER_REGISTRY, or
# one on PATH, or Debian's package, unpacked into the user's cache folder. Idempotent. Without a
# registry, everything but those tests works, and one line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
say() { printf 'registry: %s\n' "$*"; }
without() { say "$*; tests of pushing need one: install docker-registry, or name one in DOCKER_REGISTRY"; exit 0; }

if [ -n "${DOCKER_REGISTRY:-}" ]; then
    "$DOCKER_REGISTRY" --version >/dev/null 2>&1 || without "$DOCKER_REGISTRY does not run"
    exit 0
fi
command -v docker-registry >/dev/null && exit 0
mkdir -p "$cache"
exec 9>"$cache/.registry.lock"
flock 9
made=$cache/registry
if [ ! -x "$made/docker-registry" ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || without "this system has no apt-get"
    say "unpacking docker-registry into $made"
    package=$(mktemp -d)
    trap 'rm -rf "$package"' EXIT
    # As root, apt reads the file as another user.
    chmod 0755 "$package"
    download() { (cd "$package" && apt-get download -qq docker-registry) >/dev/null 2>&1; }
    download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && download; } || without "apt-get could not bring it"
    dpkg -x "$package"/docker-registry_*.deb "$package/tree" && install -D -m 0755 "$package/tree/usr/bin/docker-registry" "$made/docker-registry" \
        || without "the package holds no docker-registry"
fi
"$made/docker-registry" --version >/dev/null 2>&1 || without "$made/docker-registry does not run"
