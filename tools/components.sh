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
# Days after which a component that was not used is removed from the cache.
KEPT_DAYS=30
target=wasm32-unknown-unknown
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

. tools/remap.sh
# Policies name the digest of the bytes. So they must not depend on earlier builds, the folder or
# the user: the build is not incremental, and its flags override the caller's RUSTFLAGS. Encoded
# flags may contain spaces. Only the wasm target uses them, so what runs on this machine keeps its
# build cache.
#
# A stack of 256 KiB: rustc's default of 1 MiB would be cleared after every call. Vector
# instructions run as fast as others in the sandbox and cost one unit of fuel each.
flags=(-Cstrip=symbols -Ctarget-feature=+simd128 -Clink-arg=-zstack-size=262144 "${remap[@]}")

# digests: of each package's inputs, `DIGEST PACKAGE` in lines.
digests() {
    tools/inputs-key.py --target "$target" --each --with tensorgate-componentize "${packages[@]}"
}

# cached PACKAGE: whether the cache has a whole component of this digest.
cached() {
    local folder=$cache/${keys[$1]}
    (cd "$folder" 2>/dev/null && sha256sum --check --status sums 2>/dev/null) && touch "$folder"
}

# keep PACKAGE FILE: adds a component to the cache atomically. A concurrent build of the same
# sources may have added it.
keep() {
    local new=$cache/.new-$$
    mkdir -p "$new"
    cp "$2" "$new/component.wasm"
    (cd "$new" && sha256sum component.wasm >sums)
    cached "$1" || rm -rf "${cache:?}/${keys[$1]}"
    mv -T "$new" "$cache/${keys[$1]}" 2>/dev/null || rm -rf "$new"
}

# build PACKAGE...: builds components into $made. It gets all that were asked for: a crate of a few of
# them has other features, and so other bytes.
build() {
    local package dep_infos=()
    local componentize=${COMPONENTIZE:-$out/debug/tensorgate-componentize}
    [ -n "${COMPONENTIZE:-}" ] || tools/programs.sh
    # The caller's other settings would change the bytes, and are not part of the digest.
    clear_build_settings
    CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
        cargo build --quiet --locked --config wit/guest/profile.toml --profile "$profile" --target "$target" "${@/#/--package=}"
    for package in "$@"; do dep_infos+=("$out/$target/$folder/${package//-/_}.d"); done
    tools/inputs-key.py --target "$target" --each "$@" --covers "${dep_infos[@]}"
    for package in "$@"; do
        "$componentize" "$out/$target/$folder/${package//-/_}.wasm" -o "$made/$package.wasm" | sed "s#$made/#components: #"
    done
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir -p "$cache" "$into"
before=$(digests)
declare -A keys
while read -r key package; do keys[$package]=$profile-$key; done <<<"$before"
missing=0
for package in "${packages[@]}"; do
    cached "$package" && cp "$cache/${keys[$package]}/component.wasm" "$made/$package.wasm" || missing=$((missing + 1))
done
if [ "$missing" -gt 0 ]; then
    build "${packages[@]}"
    # If the sources changed during the build, the components do not belong to these digests.
    if [ "$(digests)" = "$before" ]; then
        for package in "${packages[@]}"; do keep "$package" "$made/$package.wasm"; done
    fi
fi
for package in "${packages[@]}"; do
    component=$into/${package//-/_}.wasm
    # A file is replaced only if it differs, so that its watchers see no change.
    cmp -s "$made/$package.wasm" "$component" || { cp "$made/$package.wasm" "$component.new" && mv "$component.new" "$component"; }
done
find "$cache" -mindepth 1 -maxdepth 1 -mtime +"$KEPT_DAYS" -exec rm -rf {} +
printf 'components: %s in %s, %s of them new\n' "${#packages[@]}" "$into" "$missing"
