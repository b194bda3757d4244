# shellcheck shell=bash
#
# Sets `remap`: rustc flags that remove the paths of this machine from WebAssembly modules. Sourced
# by the scripts that build modules.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
remap=("--remap-path-prefix=$(pwd -P)=." "--remap-path-prefix=$cargo_home=cargo"
    "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=rust")
# The folder of a registry's sources is named after the registry.
for registry in "$cargo_home"/registry/src/*; do remap+=("--remap-path-prefix=$registry=crates"); done
