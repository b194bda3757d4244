# shellcheck shell=bash
#
# For scripts that build what is shipped. Sets `remap`: rustc flags that remove the paths of this
# machine. Sourced.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Where the component rust-src is installed, panic messages of the standard library name its files
# by their local path. Elsewhere they name this virtual one, so that it is the same everywhere.
rust_sources=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')
remap=("--remap-path-prefix=$(pwd -P)=." "--remap-path-prefix=$cargo_home=cargo"
    "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=$rust_sources")
# The folder of a registry's sources is named after the registry. A first build has none yet.
[ -d "$cargo_home/registry/src" ] || cargo fetch --quiet --locked
for registry in "$cargo_home"/registry/src/*; do remap+=("--remap-path-prefix=$registry=crates"); done

# Unsets the caller's settings of cargo and rustc that would change what is built.
clear_build_settings() {
    local name
    for name in $(compgen -e); do
        case $name in
            CARGO_HOME | CARGO_TARGET_DIR | CARGO_BUILD_JOBS | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTR* | CARGO_TERM_* | RUSTUP_*) ;;
            CARGO_* | RUST*) unset "$name" ;;
        esac
    done
}
