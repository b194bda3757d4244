#!/usr/bin/env bash
# Builds the proxy-wasm filters into target/filters/*.wasm; with `--release` as they would be shipped, into
# target/filters-release/, without symbols. Each is trimmed to the callbacks that it has a use for.
# Without `--release` also the gate with faults in it, for tests only, into target/filters-faulty/gate.wasm.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
profile=dev folder=debug into=$out/filters
if [ "${1:-}" = --release ]; then
    profile=release folder=release into=$out/filters-release
    export CARGO_PROFILE_RELEASE_STRIP=symbols
fi
# Scans over elements are vector code: whatever runs WebAssembly in a proxy has had SIMD for years.
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C target-feature=+simd128"
filters=(gate auth rate-limit tensor-guard)
packages=("${filters[@]/#/-ptensorgate-}")
if [ "$profile" = dev ]; then packages+=(-ptensorgate-faulty-gate); fi
cargo build --quiet --locked --profile "$profile" --target wasm32-wasip1 "${packages[@]}"
# trimmed MODULE FILE: one that is the same stays as it is, so that whoever watches it sees no change.
trimmed() {
    tools/trim-filter.py "$1" "$2.new"
    if cmp -s "$2.new" "$2"; then rm "$2.new"; else mv "$2.new" "$2"; fi
}
mkdir -p "$into"
for filter in "${filters[@]}"; do
    # Cargo names a module as Rust names a crate.
    built=$out/wasm32-wasip1/$folder/${filter//-/_}.wasm
    trimmed "$built" "$into/$filter.wasm"
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$into/$filter.wasm")"
done
if [ "$profile" = dev ]; then
    mkdir -p "$out/filters-faulty"
    trimmed "$out/wasm32-wasip1/debug/faulty_gate.wasm" "$out/filters-faulty/gate.wasm"
fi
