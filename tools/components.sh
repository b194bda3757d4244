#!/usr/bin/env bash
# Builds the example handlers and the hostile handlers into target/components/<crate>.wasm.
# `--release` builds them as they would be shipped. The output depends only on the sources and the
# toolchain, and contains no path of this machine.
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
# Profile settings in the caller's environment change symbols, and so the bytes.
unset "${!CARGO_PROFILE_@}"
# Policies name the digest of the bytes. So they must not depend on earlier builds, the folder or
# the user: the build is not incremental, and its flags override the caller's RUSTFLAGS. Encoded
# flags may contain spaces. Only the wasm target uses them, so what runs on this machine keeps its
# build cache.
. tools/remap.sh
# A stack of 256 KiB: rustc's default of 1 MiB would be cleared after every call. Vector
# instructions run as fast as others in the sandbox and cost one unit of fuel each.
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
