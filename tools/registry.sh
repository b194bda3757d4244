#!/usr/bin/env bash
# Finds what the tests of images need: a registry and skopeo. $DOCKER_REGISTRY and $SKOPEO name them,
# or they are on PATH, or Debian's packages are unpacked into the user's cache folder. Idempotent.
# Without them, everything but those tests works, and one line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/registry
say() { printf 'registry: %s\n' "$*"; }
without() {
    say "$*; tests of images need both: install docker-registry and skopeo, or name them in DOCKER_REGISTRY and SKOPEO"
    exit 0
}

# usable PROGRAM NAMED: whether the caller has the program.
usable() {
    if [ -n "$2" ]; then
        "$2" --version >/dev/null 2>&1 || without "$2 does not run"
    else
        command -v "$1" >/dev/null
    fi
}
usable docker-registry "${DOCKER_REGISTRY:-}" && usable skopeo "${SKOPEO:-}" && exit 0

mkdir -p "$cache"
exec 9>"$cache/.registry.lock"
flock 9
if [ ! -x "$made/docker-registry" ] || [ ! -x "$made/skopeo" ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || without "this system has no apt-get"
    say "unpacking docker-registry and skopeo into $made"
    package=$(mktemp -d)
    trap 'rm -rf "$package"' EXIT
    # As root, apt reads the file as another user.
    chmod 0755 "$package"
    # The libraries of skopeo that a small system lacks.
    packages=(docker-registry skopeo libgpgme11 libassuan0 libgpg-error0)
    download() { (cd "$package" && apt-get download -qq "${packages[@]}") >/dev/null 2>&1; }
    download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && download; } || without "apt-get could not bring them"
    for file in "$package"/*.deb; do dpkg -x "$file" "$package/tree"; done
    tree=$package/tree
    install -D -m 0755 "$tree/usr/bin/docker-registry" "$made/docker-registry" || without "the package holds no docker-registry"
    install -D -m 0755 "$tree/usr/bin/skopeo" "$made/libexec/skopeo" || without "the package holds no skopeo"
    mkdir -p "$made/lib"
    find "$tree" \( -name 'libgpgme.so.*' -o -name 'libassuan.so.*' -o -name 'libgpg-error.so.*' \) -exec cp -P {} "$made/lib/" \;
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH="%s/lib" "%s/libexec/skopeo" "$@"\n' "$made" "$made" >"$made/.skopeo"
    chmod 0755 "$made/.skopeo"
    # Last, so that it exists only with its libraries.
    mv "$made/.skopeo" "$made/skopeo"
fi
for program in docker-registry skopeo; do
    "$made/$program" --version >/dev/null 2>&1 || without "$made/$program does not run"
done
