#!/usr/bin/env bash
# Builds the example and the hostile handlers into target/components/<crate>.wasm. `--release` builds them as they
# would be shipped. The output depends on the sources and the toolchain alone: no path of this machine is left in it.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
profile=dev folder=debug
if [ "${1:-}" = --release ]; then profile=release folder=release; fi

packages=()
for manifest in examples/handlers/*/Cargo.toml tests/hostile/*/Cargo.toml; do
    packages+=("$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
done

cargo build --quiet --locked -p tensorgate-componentize
# Settings of a profile that the caller has in its environment change symbols, and by them the bytes.
unset "${!CARGO_PROFILE_@}"
# Not incremental, and with flags that no RUSTFLAGS of the caller's displaces: what was built before, where, and by whom
# must not show in the bytes, whose digest policies name. Encoded flags may hold spaces. Only a target's own build sees them: what
# runs on this machine keeps its build cache.
. tools/remap.sh
# A stack of 256 KiB: rustc's own 1 MiB would be cleared after every call. Vectors, which the sandbox
# runs as well as anything else and counts as one instruction each.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")
CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --profile "$profile" --target wasm32-unknown-unknown "${packages[@]/#/--package=}"

mkdir -p "$out/components"
for package in "${packages[@]}"; do
    core=$out/wasm32-unknown-unknown/$folder/${package//-/_}.wasm
    component=$out/components/${package//-/_}.wasm
    if [ "$component" -nt "$core" ] && [ "$component" -nt "$out/debug/tensorgate-componentize" ] && [ "$(cat "$component.profile" 2>/dev/null)" = "$profile" ]; then
        printf 'components: %s is up to date\n' "$component"
    else
        printf 'components: '
        "$out/debug/tensorgate-componentize" "$core" -o "$component"
        printf '%s\n' "$profile" >"$component.profile"
    fi
done
