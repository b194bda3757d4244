#!/usr/bin/env bash
# Installs a Triton that runs without a GPU, its Python backend for this Python, and its client:
# wheels with hashes in a virtual environment in the user's cache folder (400 MB). Idempotent. The
# last line on standard output is the folder, with bin/python, bin/tritonserver, backends/ and
# libraries/. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

name=triton
. tools/python.sh

machine 2.35 "Debian 12, Ubuntu 22.04"
# The Python backend needs numpy 1, which does not support Python 3.13.
find_python "Triton's Python backend"
place tools/requirements-triton.txt tools/python.sh tools/triton.sh
if [ ! -e "$made/.complete" ]; then
    say "installing Triton and its client for Python $version into $made"
    environment
    wheels tools/requirements-triton.txt
    site=$("$made/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    server=$site/pytriton/tritonserver
    ln -s "$server/bin/tritonserver" "$made/bin/tritonserver"
    ln -s "$site/nvidia_pytriton.libs" "$made/libraries"
    mkdir -p "$made/backends"
    cp -r "$server/backends/python" "$made/backends/python"
    cp "$server/python_backend_stubs/$version/triton_python_backend_stub" "$made/backends/python/"
    : > "$made/.complete"
fi

# The stub embeds Python, so it needs the interpreter's library, which distributions package
# separately.
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
