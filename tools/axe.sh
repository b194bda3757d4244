#!/usr/bin/env bash
# Finds axe-core, which checks pages for people with disabilities: a pinned npm package, unpacked into
# the user's cache folder (3 MB of downloads). Idempotent. The last line on standard output is the path
# of its script. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

package=axe-core
release=4.10.3
integrity=Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg==

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/axe-core-$release
say() { printf 'axe: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/.axe.lock"
flock 9
if [ ! -e "$made/axe.min.js" ]; then
    command -v npm >/dev/null || fail "npm is missing; install it (Debian's package is npm) and run this again"
    say "fetching $package $release into $made"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    (cd "$folder" && npm pack --silent "$package@$release" >/dev/null) \
        || fail "npm could not fetch $package $release; check the network and run this again"
    archive=$(printf '%s\n' "$folder"/*.tgz)
    actual=$(python3 -c 'import base64, hashlib, sys; print(base64.b64encode(hashlib.sha512(open(sys.argv[1], "rb").read()).digest()).decode())' "$archive")
    [ "$actual" = "$integrity" ] || fail "$package $release has the SHA-512 $actual; expected $integrity"
    tar -xzf "$archive" -C "$folder" package/axe.min.js
    mkdir -p "$made"
    # Last, so that it exists only as a whole.
    mv "$folder/package/axe.min.js" "$made/axe.min.js"
fi
flock -u 9
printf '%s\n' "$made/axe.min.js"
