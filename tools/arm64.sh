# shellcheck shell=bash
# Sourced by scripts that build for arm64 on another processor: adds Rust's standard library for it,
# and a C compiler that links.
arm64=aarch64-unknown-linux-gnu

# prepare_arm64 [PACKAGE...]: further packages of Debian.
prepare_arm64() {
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    rustup target list --installed | grep -qx "$arm64" || rustup target add "$arm64"
    dpkg -s gcc-aarch64-linux-gnu libc6-dev-arm64-cross "$@" >/dev/null 2>&1 && return
    { [ "$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross "$@"; } >/dev/null 2>&1 ||
        { echo "these packages of Debian are missing: gcc-aarch64-linux-gnu libc6-dev-arm64-cross $*" >&2; return 1; }
}
