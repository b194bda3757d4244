#!/usr/bin/env bash
# Finds promtool, which checks rules for Prometheus: the one named by $PROMTOOL, or one on PATH, or
# the one of a pinned Debian package, unpacked into the user's cache folder (20 MB of downloads,
# 100 MB on disk). `promtool.sh prometheus` finds the server of that package in the same way, or the
# one named by $PROMETHEUS. Idempotent. The last line on standard output is the path. Everything else
# goes to standard error. If there is none, it prints no path, and with STRICT=1 it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-promtool}

# Prometheus 2.42, for x86-64 only.
package=prometheus
release=2.42.0+ds-5+deb12u1
digest=81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/promtool-$release
say() { printf 'promtool: %s\n' "$*" >&2; }
fail() {
    say "$*; install $program (Debian's package is $package), or name one in ${program^^}"
    [ "${STRICT:-}" != 1 ]
    exit
}

# answer PROGRAM: prints its path if it runs.
answer() {
    "$1" --version >/dev/null 2>&1 || fail "$1 does not run"
    printf '%s\n' "$1"
    exit 0
}
named=${program^^}
[ -z "${!named:-}" ] || answer "${!named}"
! found=$(command -v "$program") || answer "$found"

mkdir -p "$cache"
exec 9>"$cache/.promtool.lock"
flock 9
if [ ! -x "$made/$program" ]; then
    [ "$(uname -m)" = x86_64 ] || fail "no $program for $(uname -m) comes along"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "this system has no apt-get"
    say "unpacking $package $release into $made"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    # As root, apt reads the file as another user.
    chmod 0755 "$folder"
    download() { (cd "$folder" && apt-get download -qq "$package=$release") >/dev/null 2>&1; }
    download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && download; } \
        || fail "apt-get could not bring $package $release"
    archive=$(printf '%s\n' "$folder"/*.deb)
    actual=$(sha256sum "$archive" | cut -d ' ' -f 1)
    [ "$actual" = "$digest" ] || fail "$package $release has the SHA-256 $actual; expected $digest"
    dpkg -x "$archive" "$folder/tree"
    mkdir -p "$made"
    for each in promtool prometheus; do
        install -m 0755 "$folder/tree/usr/bin/$each" "$made/.$each"
        # Last, so that it exists only as a whole.
        mv "$made/.$each" "$made/$each"
    done
fi
flock -u 9
answer "$made/$program"
