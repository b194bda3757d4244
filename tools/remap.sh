# shellcheck shell=bash
#
# Sets `remap`: rustc flags that remove the paths of this machine from WebAssembly modules. Sourced
# by the scripts that build modules.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Where the component rust-src is installed, panic messages of the standard library name its files
# by their local path. Elsewhere they name this virtual one, so that it is the same everywhere.
rust_sources=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')
remap=("--remap-path-prefix=$(pwd -P)=." "--remap-path-prefix=$cargo_home=cargo"
    "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=$rust_sources")
# The folder of a registry's sources is named after the registry.
for registry in "$cargo_home"/registry/src/*; do remap+=("--remap-path-prefix=$registry=crates"); done
