#!/usr/bin/env bash
# Builds the tensor kit into wit/kit/kit.wasm.gz, which the command carries: whoever writes a handler in Python or JavaScript needs no Rust. With `--check`: changes
# nothing, and fails if what is there is not what the sources make. The output depends on the sources and the toolchain alone.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
kept=wit/kit/kit.wasm.gz

tools/programs.sh
# Settings of a profile that the caller has in its environment change symbols, and by them the bytes.
unset "${!CARGO_PROFILE_@}"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# As tools/components.sh, and with the vector instructions that the sandbox runs as well as anything else.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "--remap-path-prefix=$(pwd -P)=." "--remap-path-prefix=$cargo_home=cargo"
    "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=rust")
for registry in "$cargo_home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=crates"); done
# Shipped as it is, whatever else is built: always the profile for that.
CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --release --target wasm32-unknown-unknown -p tensorgate-kit
made=$out/components/tensor_kit.wasm
mkdir -p "$out/components"
"$out/debug/tensorgate-componentize" "$out/wasm32-unknown-unknown/release/tensorgate_kit.wasm" -o "$made"

# What is in it counts: compressors differ.
if gzip -dc "$kept" | cmp -s "$made"; then
    echo "kit: $kept is what the sources make"
elif [ "${1:-}" = --check ]; then
    echo "kit: $kept is not what the sources make; run tools/kit.sh if the kit was meant to change" >&2
    exit 1
else
    gzip -9nc "$made" >"$kept"
    echo "kit: $kept renewed"
fi
