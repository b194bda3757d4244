#!/usr/bin/env bash
# Builds the tensor kit into wit/kit/kit.wasm.gz, which `tensorgate-handler` contains, so that authors of
# Python and JavaScript handlers need no Rust. `--check` changes nothing, and fails if that file
# differs from what the sources build. The output depends only on the sources and the toolchain.
#
# The digest of what was built stays in the user's cache folder, under the digest of its inputs
# (tools/inputs-key.py). The same inputs are not built again.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
kept=wit/kit/kit.wasm.gz
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate/kit
target=wasm32-unknown-unknown

# digest: of the component on standard input.
digest() {
    sha256sum | cut -d ' ' -f 1
}

# The kit also compiles files of the guest library.
inputs=(--target "$target" --with tensorgate-componentize --with tensorgate-handler tensorgate-kit)
key=$(tools/inputs-key.py "${inputs[@]}")
if [ "$(cat "$cache/$key" 2>/dev/null)" = "$(gzip -dc "$kept" | digest)" ]; then
    touch "$cache/$key"
    echo "kit: $kept is up to date, as built before"
    exit
fi

tools/programs.sh
. tools/remap.sh
# Other settings of the caller would change symbols, and so the bytes.
clear_build_settings
# As in tools/components.sh, with vector instructions.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")
# Always the release profile, because the file is shipped as it is.
CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --release --target "$target" -p tensorgate-kit
made=$out/components/tensor_kit.wasm
mkdir -p "$out/components"
"$out/debug/tensorgate-componentize" "$out/$target/release/tensorgate_kit.wasm" -o "$made"

tools/inputs-key.py "${inputs[@]}" --covers "$out/$target/release/tensorgate_kit.d"
mkdir -p "$cache"
find "$cache" -type f -mtime +30 -delete
# If the sources changed during the build, its result does not belong to this digest.
if [ "$(tools/inputs-key.py "${inputs[@]}")" = "$key" ]; then digest <"$made" >"$cache/$key"; fi

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
