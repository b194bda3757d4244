#!/usr/bin/env bash
# Unpacks PyTorch, which writes files for tests/artifact/benign_torch.py, into the user's cache
# folder: Debian 12's package for CPUs and the libraries that it needs (150 MB of downloads, 500 MB
# on disk). PyPI's for Linux needs several gigabytes of CUDA. Idempotent. The last line on standard
# output is the folder. Its `python` belongs on PYTHONPATH and its `lib` on LD_LIBRARY_PATH. Where
# there are no such packages, one line on standard error says so, and the folder does not exist.
set -euo pipefail
cd "$(dirname "$0")/.."

# PyTorch 1.13, for Python 3.11 on x86-64. apt checks the signatures of the libraries below it.
release=1.13.1+dfsg-4
packages=(python3-torch libtorch1.13)
digests=(
    8559392ee9f808c45ca9473ab47ec5fe030072b5055261ba1a7d5270f927ee95
    4ca3f0a9b2a2cd78820d7e629467636ef6986bf350795f625ec13a80b2d017d5
)

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/torch-$release-$(sha256sum tools/torch.sh | cut -c1-16)
say() { printf 'torch: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
without() { say "$*; its files are left out"; printf '%s\n' "$made"; exit 0; }

mkdir -p "$cache"
exec 9>"$cache/.torch.lock"
flock 9
if [ ! -e "$made/.complete" ]; then
    rm -rf "$made"
    [ "$(uname -m)" = x86_64 ] || without "no PyTorch for $(uname -m) comes along"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || without "this system has no apt-get"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    # As root, apt reads the files as another user.
    chmod 0755 "$folder"

    # Lists the packages below these that are not installed, as NAME=VERSION.
    needed() {
        apt-get install -s --no-install-recommends "libtorch1.13=$release" 2>/dev/null \
            | sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p'
    }
    # As many as have to be named at once.
    # shellcheck disable=SC2046
    download() {
        (cd "$folder" && apt-get download -qq $({ printf "%s=$release\n" "${packages[@]}"; needed; } | sort -u)) >/dev/null 2>&1
    }
    say "unpacking PyTorch $release into $made"
    download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && download; } \
        || without "apt-get could not bring PyTorch $release, which is Debian 12's"
    for number in "${!packages[@]}"; do
        actual=$(sha256sum "$folder/${packages[number]}_"*.deb | cut -d ' ' -f 1)
        [ "$actual" = "${digests[number]}" ] \
            || fail "${packages[number]} $release has the SHA-256 $actual; expected ${digests[number]}"
    done
    mkdir -p "$made/tree" "$made/lib"
    for archive in "$folder"/*.deb; do
        dpkg -x "$archive" "$made/tree"
    done
    rm -rf "$made/tree/usr/share"
    ln -s tree/usr/lib/python3/dist-packages "$made/python"
    # One folder for all libraries, which Debian has in several.
    folders=$(find "$made/tree" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :)
    LD_LIBRARY_PATH=$folders ldd "$made"/python/torch/_C.*.so > "$folder/libraries"
    ! grep 'not found' "$folder/libraries" >&2 || fail "PyTorch needs libraries that were not brought"
    while read -r library _ path _; do
        [[ $path != "$made/"* ]] || ln -s "$path" "$made/lib/$library"
    done < "$folder/libraries"
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
