#!/usr/bin/env bash
# Builds the example and the hostile handlers into target/components/<crate>.wasm. `--release` builds them as they
# would be shipped. The output depends on the sources and the toolchain alone: no path of this machine is left in it.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
profile=dev folder=debug
if [ "${1:-}" = --release ]; then profile=release folder=release; fi

packages=()
for manifest in examples/handlers/*/Cargo.toml tests/hostile/*/Cargo.toml; do
    packages+=("$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
done

cargo build --quiet --locked -p tensorgate-componentize
# Not incremental: what was built before must not show in the bytes, whose digest policies name.
# A target's own flags: what runs on this machine keeps its build cache.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustc_source=$(rustc --print sysroot)/lib/rustlib/src/rust
CARGO_INCREMENTAL=0 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-Cstrip=symbols --remap-path-prefix=$PWD=. --remap-path-prefix=$cargo_home=cargo --remap-path-prefix=$rustc_source=rust" \
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
