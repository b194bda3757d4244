#!/usr/bin/env bash
# Builds the proxy-wasm filters into target/filters/*.wasm; with `--release` as they would be shipped, into
# target/filters-release/, without symbols. Each is trimmed to the callbacks that it has a use for.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
profile=dev folder=debug into=$out/filters
if [ "${1:-}" = --release ]; then
    profile=release folder=release into=$out/filters-release
    export CARGO_PROFILE_RELEASE_STRIP=symbols
fi
filters=(gate auth rate-limit tensor-guard)
cargo build --quiet --locked --profile "$profile" --target wasm32-wasip1 "${filters[@]/#/-ptensorgate-}"
mkdir -p "$into"
for filter in "${filters[@]}"; do
    # Cargo names a module as Rust names a crate.
    built=$out/wasm32-wasip1/$folder/${filter//-/_}.wasm
    tools/trim-filter.py "$built" "$into/$filter.wasm.new"
    # One that is the same stays as it is: whoever watches it sees no change.
    if cmp -s "$into/$filter.wasm.new" "$into/$filter.wasm"; then rm "$into/$filter.wasm.new"; else mv "$into/$filter.wasm.new" "$into/$filter.wasm"; fi
    printf 'filters: %s.wasm, %s bytes\n' "$filter" "$(stat -c %s "$into/$filter.wasm")"
done
