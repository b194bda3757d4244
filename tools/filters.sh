#!/usr/bin/env bash
# Builds the proxy-wasm filters into target/filters/*.wasm.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
filters=(gate auth rate-limit tensor-guard)
cargo build --quiet --locked --target wasm32-wasip1 "${filters[@]/#/-ptensorgate-}"
mkdir -p "$out/filters"
for filter in "${filters[@]}"; do
    # Cargo names a module as Rust names a crate.
    built=$out/wasm32-wasip1/debug/${filter//-/_}.wasm
    cmp -s "$built" "$out/filters/$filter.wasm" || cp "$built" "$out/filters/$filter.wasm"
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$out/filters/$filter.wasm")"
done
