#!/usr/bin/env bash
# Watches the native module with Valgrind while tests/abi calls its hooks as Envoy does:
#
# - module.sh memory [COUNT]: COUNT mutated requests (1,000,000), half of them with a build that can
#   panic in any hook. Any invalid access, use of uninitialised memory or lost memory fails.
# - module.sh instructions: the instructions of one accepted request of 1 KB in a release build.
#   More than 3 % beside tests/abi/instructions.txt fails, and so do more than 20 allocations.
# - module.sh arm64 [COUNT]: COUNT mutated requests (20,000) on an emulated processor of arm64,
#   without Valgrind.
set -euo pipefail
# Otherwise a failure in a `$(…)` would go unnoticed.
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

fail() { printf 'module: %s\n' "$*" >&2; exit 1; }

. tools/arm64.sh

prepare_valgrind() {
    command -v valgrind >/dev/null ||
        { [ "$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq valgrind; } >/dev/null 2>&1 ||
        fail "Valgrind is missing; install it with your package manager"
}

target=${CARGO_TARGET_DIR:-$PWD/target}
# The module finds the key of signed contexts here.
export TENSORGATE_CONTEXT_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

# play TOOL-FLAGS... -- PROFILE ARGUMENTS...: calls the hooks of a build under Valgrind.
play() {
    local flags=()
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    local profile=$2
    shift 2
    valgrind --quiet "${flags[@]}" "$target/$profile/tensorgate-abi-driver" "$target/$profile/libtensorgate_gate.so" "$@"
}

memory() {
    local count=${1:-1000000} seed=${SEED:-1} profile pids=() failed=false
    prepare_valgrind
    cargo build --quiet --locked -p tensorgate-envoy-module -p tensorgate-abi-driver
    cargo build --quiet --locked --release -p tensorgate-envoy-module -p tensorgate-abi-driver
    for profile in debug release; do
        play --tool=memcheck --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
            -- "$profile" mutated $((count / 2)) "$seed" &
        pids+=($!)
        seed=$((seed + 1))
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=true; done
    # Large bodies are read in place.
    for profile in debug release; do
        play --tool=memcheck --error-exitcode=9 -- "$profile" large 20 || failed=true
    done
    ! $failed || fail "a request of $count has a finding; the first line above that names it says where"
}

# The instructions of all hooks for so many requests, with what they call: Envoy's functions in
# tests/abi, too, so a change there changes the record.
hooks() {
    local count=$1 output
    output=$target/module.callgrind
    play --tool=callgrind --callgrind-out-file="$output" --collect-atstart=no \
        --toggle-collect='envoy_dynamic_module_on_http_filter_*' -- release small "$count" >&2
    sed -n 's/^summary: //p' "$output"
}

instructions() {
    local few many now record before allocations
    prepare_valgrind
    cargo build --quiet --locked --release -p tensorgate-envoy-module -p tensorgate-abi-driver
    # The difference leaves out what only the first request does, and the configuration.
    few=$(hooks 200)
    before=$(tools/allocations.py "$target/module.callgrind")
    many=$(hooks 1200)
    allocations=$((($(tools/allocations.py "$target/module.callgrind") - before) / 1000))
    now=$(((many - few) / 1000))
    record=$(<tests/abi/instructions.txt)
    printf 'module: %s instructions for a request of 1 KB; the record is %s\n' "$now" "$record"
    printf 'module: %s allocations for it\n' "$allocations"
    [ "$allocations" -le 20 ] || fail "that is more than 20 allocations"
    [ "$now" -le $((record * 103 / 100)) ] || fail "that is more than 3 % above the record in tests/abi/instructions.txt"
    [ "$now" -ge $((record * 97 / 100)) ] || fail "that is more than 3 % below: write it into tests/abi/instructions.txt"
}

arm64() {
    local count=${1:-20000} seed=${SEED:-1} built=$target/$arm64/debug
    prepare_arm64 qemu-user-static
    cargo build --quiet --locked --target "$arm64" -p tensorgate-envoy-module -p tensorgate-abi-driver
    qemu-aarch64-static -L /usr/aarch64-linux-gnu \
        "$built/tensorgate-abi-driver" "$built/libtensorgate_gate.so" mutated "$count" "$seed"
}

case ${1:-} in
    memory) memory "${2:-}" ;;
    instructions) instructions ;;
    arm64) arm64 "${2:-}" ;;
    *) fail "usage: module.sh memory [COUNT], module.sh instructions or module.sh arm64 [COUNT]" ;;
esac
