#!/usr/bin/env bash
# Builds the filter's module as it is shipped, target/filters/gate.wasm, trimmed to the callbacks that
# it uses. The gate with faults in it, which tests load, goes into target/filters-faulty/.
# `filters.sh gate` builds the first only.
#
# The build has a target folder of its own, so that it can run beside the build of the programs.
#
# Modules are cached in the user's cache folder, in one folder for each digest of their inputs
# (tools/inputs-key.py). A clean clone of sources that were built before compiles nothing.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
built=$out/filter-build
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate/filters
# Number of cached sets of modules. One set is 6 MB.
KEPT=5
all=(gate faulty-gate)
filters=("$@")
[ $# -gt 0 ] || filters=("${all[@]}")
packages=("${filters[@]/#/tensorgate-}")

. tools/remap.sh
# Settings of the caller are not part of the digest.
clear_build_settings
export CARGO_INCREMENTAL=0
# Vector instructions for scans of elements, and no path of this machine.
flags=(-Ctarget-feature=+simd128 "${remap[@]}")

# build FOLDER: builds and trims the modules, and writes their checksums beside them.
build() {
    local filter module dep_infos=()
    CARGO_TARGET_DIR=$built CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
        cargo build --quiet --locked --profile filter --target wasm32-wasip1 "${packages[@]/#/--package=}"
    for filter in "${filters[@]}"; do
        # Cargo names a module as Rust names a crate.
        module=$built/wasm32-wasip1/filter/${filter//-/_}
        tools/trim-filter.py "$module.wasm" "$1/$filter.wasm"
        dep_infos+=("$module.d")
    done
    tools/inputs-key.py "${packages[@]}" --covers "${dep_infos[@]}"
    (cd "$1" && sha256sum -- *.wasm >sums)
}

# kept KEY FOLDER: a copy of the set of this digest, if there is a whole one.
kept() {
    cp "$cache/$1"/* "$2/" 2>/dev/null && (cd "$2" && sha256sum --check --status sums 2>/dev/null) && touch "$cache/$1" && return
    rm -f "$2"/*
    return 1
}

# keep FOLDER: adds a set to the cache atomically, and removes the oldest sets.
keep() {
    local new=$cache/.new-$$
    mkdir -p "$cache"
    cp -r "$1" "$new"
    # An existing one is incomplete, or comes from a concurrent build of the same sources.
    rm -rf "${cache:?}/$key"
    mv -T "$new" "$cache/$key" 2>/dev/null || rm -rf "$new"
    # Remains of builds that were killed.
    find "$cache" -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} +
    (cd "$cache" && ls -1td -- */ | tail -n +$((KEPT + 1)) | xargs -r rm -rf --)
}

# placed MODULE FILE: writes a file only if it differs, so that its watchers see no change.
placed() {
    mkdir -p "$(dirname "$2")"
    cmp -s "$1" "$2" || { cp "$1" "$2.new" && mv "$2.new" "$2"; }
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
key=$(tools/inputs-key.py "${packages[@]}")
# The set of all filters has the same modules as a set of some: crates have the same features.
whole=$(tools/inputs-key.py "${all[@]/#/tensorgate-}")
if kept "$whole" "$made"; then
    echo "filters: built before, from $cache/${whole:0:16}…"
elif [ "$key" != "$whole" ] && kept "$key" "$made"; then
    echo "filters: built before, from $cache/${key:0:16}…"
else
    build "$made"
    # If the sources changed during the build, the modules do not belong to this digest.
    if [ "$(tools/inputs-key.py "${packages[@]}")" = "$key" ]; then keep "$made"; fi
fi
for filter in "${filters[@]}"; do
    if [ "$filter" = faulty-gate ]; then
        placed "$made/faulty-gate.wasm" "$out/filters-faulty/gate.wasm"
        continue
    fi
    placed "$made/$filter.wasm" "$out/filters/$filter.wasm"
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$out/filters/$filter.wasm")"
done
