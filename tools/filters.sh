#!/usr/bin/env bash
# Builds the proxy-wasm filters into target/filters/*.wasm.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
cargo build --quiet --locked --target wasm32-wasip1 -p tensorgate-gate
mkdir -p "$out/filters"
for filter in gate; do
    built=$out/wasm32-wasip1/debug/$filter.wasm
    cmp -s "$built" "$out/filters/$filter.wasm" || cp "$built" "$out/filters/$filter.wasm"
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$out/filters/$filter.wasm")"
done
