#!/usr/bin/env bash
# Builds handlers into target/components/<crate>.wasm: all examples and hostile handlers, or the
# packages that are named. `--release` builds them as they are shipped, `--into FOLDER` puts them
# elsewhere. The output depends on the sources and the toolchain alone: no path of this machine is
# left in it. $COMPONENTIZE names the program that makes components, if it is already built.
#
# Components are cached in the user's cache folder, under the digest of their inputs
# (tools/inputs-key.py). A clean clone of sources that were built before compiles nothing.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate/components
targets=(wasm32-unknown-unknown wasm32-wasip2)
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

all=()
for manifest in examples/handlers/*/Cargo.toml tests/hostile/*/Cargo.toml; do
    all+=("$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)")
done
[ ${#packages[@]} -gt 0 ] || packages=("${all[@]}")

. tools/remap.sh
. tools/kept.sh
# Policies name the digest of the bytes. So they must not depend on earlier builds, the folder or
# the user: the build is not incremental, and its flags override the caller's RUSTFLAGS. Encoded
# flags may contain spaces. Only the wasm target uses them, so what runs on this machine keeps its
# build cache.
#
# A stack of 256 KiB: rustc's default of 1 MiB would be cleared after every call. Vector
# instructions run as fast as others in the sandbox and cost one unit of fuel each.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")

# target_of PACKAGE: most handlers need no WASI, and are smaller without it.
target_of() {
    case $1 in
        hostile-wasi) echo wasm32-wasip2 ;;
        *) echo wasm32-unknown-unknown ;;
    esac
}

# compile TARGET PACKAGE...: compiles packages to core modules.
compile() {
    local target=$1 own=("${flags[@]}")
    shift
    # The linker of this target would make a component, which $COMPONENTIZE does.
    [ "$target" != wasm32-wasip2 ] || own+=(-Clink-arg=--skip-wit-component)
    CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${own[*]}") \
        cargo build --quiet --locked --config wit/guest/profile.toml --profile "$profile" --target "$target" "${@/#/--package=}"
}

# key PACKAGE...: the digest of their inputs. Local packages depend on the same ones for each target.
key() {
    printf '%s-%s' "$profile" "$(tools/inputs-key.py --target "${targets[0]}" --with tensorgate-componentize "$@")"
}

# build FOLDER: builds the components.
build() {
    local package target chosen dep_infos=()
    local componentize=${COMPONENTIZE:-$out/debug/tensorgate-componentize}
    [ -n "${COMPONENTIZE:-}" ] || tools/programs.sh
    # The caller's other settings would change the bytes, and are not part of the digest.
    clear_build_settings
    for target in "${targets[@]}"; do
        chosen=()
        for package in "${packages[@]}"; do
            [ "$(target_of "$package")" != "$target" ] || chosen+=("$package")
        done
        [ ${#chosen[@]} -eq 0 ] || compile "$target" "${chosen[@]}"
    done
    for package in "${packages[@]}"; do
        # Cargo names a module as Rust names a crate.
        local module
        module=$out/$(target_of "$package")/$folder/${package//-/_}
        "$componentize" "$module.wasm" -o "$1/${package//-/_}.wasm" | sed "s#$1/#components: #"
        dep_infos+=("$module.d")
    done
    tools/inputs-key.py --target "${targets[0]}" "${packages[@]}" --covers "${dep_infos[@]}"
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
key=$(key "${packages[@]}")
# The set of all handlers has the same components as a set of some: crates have the same features.
whole=$(key "${all[@]}")
if kept "$whole" "$made"; then
    echo "components: built before, from $cache/${whole:0:16}…"
elif [ "$key" != "$whole" ] && kept "$key" "$made"; then
    echo "components: built before, from $cache/${key:0:16}…"
else
    build "$made"
    # If the sources changed during the build, the components do not belong to this digest.
    if [ "$(key "${packages[@]}")" = "$key" ]; then keep "$key" "$made"; fi
fi
for package in "${packages[@]}"; do
    placed "$made/${package//-/_}.wasm" "$into/${package//-/_}.wasm"
done
printf 'components: %s in %s\n' "${#packages[@]}" "$into"
