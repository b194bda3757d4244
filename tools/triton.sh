#!/usr/bin/env bash
# Brings a Triton that runs without a GPU, its Python backend for our Python, and its client: hashed wheels in a virtual
# environment of the user's cache folder, about 400 MB. Idempotent. Its last line on standard output is the folder:
# bin/python, bin/tritonserver, backends/, libraries/. Everything else that it says goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
requirements=tools/requirements-triton.txt
# Those that the list has wheels for. The Python backend needs numpy 1, which there is none of for 3.13.
versions=(3.11 3.12)

say() { printf 'triton: %s\n' "$*" >&2; }
fail() { printf 'triton: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "Linux is needed; this is $(uname -s)"
case $(uname -m) in x86_64 | aarch64) ;; *) fail "x86-64 or arm64 is needed; this is $(uname -m)" ;; esac
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{print $2}')
[ -n "$glibc" ] && [ "$(printf '2.35\n%s\n' "$glibc" | sort -V | head -n1)" = 2.35 ] \
    || fail "Triton's wheel needs glibc 2.35 (Debian 12, Ubuntu 22.04) or later; this is ${glibc:-another C library}"

# Debian packages, only where something is missing and only where we may install.
debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* from Debian"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >/dev/null \
            || fail "apt-get could not install $*; install them and run this again"
    else
        fail "missing: $*; install them with your package manager and run this again"
    fi
}

# What a Python says of itself: its version, if it is one of ours.
known() {
    local version
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
    [[ " ${versions[*]} " == *" $version "* ]] && printf '%s' "$version"
}

python=
for candidate in ${TENSORGATE_PYTHON:-python3 python3.12 python3.11}; do
    command -v "$candidate" >/dev/null && version=$(known "$candidate") && python=$(command -v "$candidate") && break
done
[ -n "$python" ] || fail "CPython 3.11 or 3.12 is needed for Triton's Python backend (python3 here is $(python3 --version 2>&1)); install one, or name it in TENSORGATE_PYTHON"

# One folder for each list of wheels, each Python and each form of this script.
made=$cache/triton-$({ cat "$requirements" tools/triton.sh; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -c1-16)
mkdir -p "$cache"
exec 9>"$cache/.triton.lock"
flock 9
if [ ! -e "$made/.complete" ]; then
    say "installing Triton and its client for Python $version into $made"
    rm -rf "$made"
    "$python" -m venv "$made" 2>/dev/null || { rm -rf "$made"; debian python3-venv; "$python" -m venv "$made"; } \
        || fail "$python -m venv does not work; install python3-venv and run this again"
    "$made/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r "$requirements" >&2 \
        || fail "pip could not install Triton; check the network and run this again"
    site=$("$made/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    server=$site/pytriton/tritonserver
    ln -s "$server/bin/tritonserver" "$made/bin/tritonserver"
    ln -s "$site/nvidia_pytriton.libs" "$made/libraries"
    mkdir -p "$made/backends"
    cp -r "$server/backends/python" "$made/backends/python"
    cp "$server/python_backend_stubs/$version/triton_python_backend_stub" "$made/backends/python/"
    : > "$made/.complete"
fi

# The stub embeds Python: it needs the interpreter as a library, which distributions package apart.
stub=$made/backends/python/triton_python_backend_stub
libpython=$("$made/bin/python" -c 'import sys, sysconfig; print(sysconfig.get_config_var("LIBDIR") or "", sys.base_prefix + "/lib", sep=":")')
missing() { LD_LIBRARY_PATH=$made/libraries:$libpython ldd "$stub" "$made/bin/tritonserver" 2>/dev/null | awk '/not found/ {print $1}' | sort -u | tr '\n' ' '; }
lacks=$(missing)
case $lacks in
    "") ;;
    *libpython*) debian "libpython$version" ;;
    *) fail "Triton's server needs libraries that are not here: $lacks" ;;
esac
lacks=$(missing)
[ -z "$lacks" ] || fail "Triton's server needs libraries that are not here: $lacks"
flock -u 9
printf '%s\n' "$made"
