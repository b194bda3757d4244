#!/usr/bin/env bash
# Builds the tensor kit into wit/kit/kit.wasm.gz, which `tensorgate-handler` contains, so that authors of
# Python and JavaScript handlers need no Rust. `--check` changes nothing, and fails if that file
# differs from what the sources build. The output depends only on the sources and the toolchain.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
kept=wit/kit/kit.wasm.gz

tools/programs.sh
# Profile settings in the caller's environment change symbols, and so the bytes.
unset "${!CARGO_PROFILE_@}"
. tools/remap.sh
# As in tools/components.sh, with vector instructions.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")
# Always the release profile, because the file is shipped as it is.
CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --release --target wasm32-unknown-unknown -p tensorgate-kit
made=$out/components/tensor_kit.wasm
mkdir -p "$out/components"
"$out/debug/tensorgate-componentize" "$out/wasm32-unknown-unknown/release/tensorgate_kit.wasm" -o "$made"

# Compares the content, because compressors differ.
if gzip -dc "$kept" | cmp -s "$made"; then
    echo "kit: $kept is up to date"
elif [ "${1:-}" = --check ]; then
    echo "kit: $kept differs from the sources; run tools/kit.sh if the change is intended" >&2
    exit 1
else
    gzip -9nc "$made" >"$kept"
    echo "kit: $kept written"
fi
