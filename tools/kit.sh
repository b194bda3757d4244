#!/usr/bin/env bash
# Builds the tensor kit into wit/kit/kit.wasm.gz, which `tensorgate-handler` contains, so that authors of
# Python and JavaScript handlers need no Rust. `--check` changes nothing, and fails if that file
# differs from what the sources build. The output depends only on the sources and the toolchain.
#
# What was built stays in the user's cache folder, under the digest of its inputs
# (tools/inputs-key.py). The same inputs are not built again.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
shipped=wit/kit/kit.wasm.gz
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate/kit
target=wasm32-unknown-unknown

made=$out/components/tensor_kit.wasm
. tools/remap.sh
. tools/kept.sh
# The kit also compiles files of the guest library.
inputs=(--target "$target" --with tensorgate-componentize --with tensorgate-handler tensorgate-kit)
# As in tools/components.sh, with vector instructions.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")

# build FOLDER: builds the component.
build() {
    local module=$out/$target/release/tensorgate_kit
    tools/programs.sh
    # Other settings of the caller would change symbols, and so the bytes.
    clear_build_settings
    # Always the release profile, because the file is shipped as it is.
    CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
        cargo build --quiet --locked --release --target "$target" -p tensorgate-kit
    tools/inputs-key.py "${inputs[@]}" --covers "$module.d"
    "$out/debug/tensorgate-componentize" "$module.wasm" -o "$1/tensor_kit.wasm" | sed "s#$1/#kit: #"
}

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
key=$(tools/inputs-key.py "${inputs[@]}")
if ! kept "$key" "$new"; then
    build "$new"
    # If the sources changed during the build, the component does not belong to this digest.
    if [ "$(tools/inputs-key.py "${inputs[@]}")" = "$key" ]; then keep "$key" "$new"; fi
fi
placed "$new/tensor_kit.wasm" "$made"

# Compares the content, because compressors differ.
if gzip -dc "$shipped" | cmp -s "$made"; then
    echo "kit: $shipped is up to date"
elif [ "${1:-}" = --check ]; then
    echo "kit: $shipped differs from the sources; run tools/kit.sh if the change is intended" >&2
    exit 1
else
    gzip -9nc "$made" >"$shipped"
    echo "kit: $shipped written"
fi
