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
all=(gate faulty-gate)
filters=("$@")
[ $# -gt 0 ] || filters=("${all[@]}")
packages=("${filters[@]/#/tensorgate-}")

. tools/remap.sh
. tools/kept.sh
# Settings of the caller are not part of the digest.
clear_build_settings
export CARGO_INCREMENTAL=0
# Vector instructions for scans of elements, and no path of this machine.
flags=(-Ctarget-feature=+simd128 "${remap[@]}")

# build FOLDER: builds and trims the modules.
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
    if [ "$(tools/inputs-key.py "${packages[@]}")" = "$key" ]; then keep "$key" "$made"; fi
fi
for filter in "${filters[@]}"; do
    if [ "$filter" = faulty-gate ]; then
        placed "$made/faulty-gate.wasm" "$out/filters-faulty/gate.wasm"
        continue
    fi
    placed "$made/$filter.wasm" "$out/filters/$filter.wasm"
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$out/filters/$filter.wasm")"
done
