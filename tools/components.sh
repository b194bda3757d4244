#!/usr/bin/env bash
# Builds handlers into target/components/<crate>.wasm: all examples and hostile handlers, or the
# packages that are named. `--release` builds them as they are shipped, `--into FOLDER` puts them
# elsewhere. The output depends on the sources and the toolchain alone: no path of this machine is
# left in it. $COMPONENTIZE names the program that makes components, if it is already built.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
into=$out/components
profile=dev folder=debug
packages=()
while [ $# -gt 0 ]; do
    case $1 in
        --release) profile=release folder=release ;;
        --into) into=$2 && shift ;;
        *) packages+=("$1") ;;
    esac
    shift
done

if [ ${#packages[@]} -eq 0 ]; then
    for manifest in examples/handlers/*/Cargo.toml tests/hostile/*/Cargo.toml; do
        packages+=("$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
    done
fi

componentize=${COMPONENTIZE:-$out/debug/tensorgate-componentize}
[ -n "${COMPONENTIZE:-}" ] || tools/programs.sh
# Settings of a profile that the caller has in its environment change symbols, and by them the bytes.
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

mkdir -p "$into"
for package in "${packages[@]}"; do
    core=$out/wasm32-unknown-unknown/$folder/${package//-/_}.wasm
    component=$into/${package//-/_}.wasm
    if [ "$component" -nt "$core" ] && [ "$component" -nt "$componentize" ] && [ "$(cat "$component.profile" 2>/dev/null)" = "$profile" ]; then
        printf 'components: %s is up to date\n' "$component"
    else
        printf 'components: '
        "$componentize" "$core" -o "$component"
        printf '%s\n' "$profile" >"$component.profile"
    fi
done
