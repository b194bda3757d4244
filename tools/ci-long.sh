#!/usr/bin/env bash
# Runs one part of the checks that are too long for CI: ci-long.sh PART. From a clean clone each part
# takes at most 40 minutes on two cores. No test is forgiven by a second run.
set -euo pipefail
cd "$(dirname "$0")/.."
export STRICT=1
case ${1:-} in
    # Large loops, and every vector on every way of loading the filter.
    vectors) TENSORGATE_LONG=1 make test ;;
    # Real servers of every protocol with injected faults, and the example handlers.
    servers) make test-servers test-examples ;;
    dist) make test-dist test-images ;;
    # The end-to-end tests that depend on Envoy's behaviour, on every release that is supported.
    envoys) make filters build components && tools/stage.sh envoys tools/envoys.sh ;;
    fuzz) FUZZ_SECONDS=${FUZZ_SECONDS:-900} make fuzz ;;
    soak) SOAK_SECONDS=${SOAK_SECONDS:-600} make soak ;;
    # Good answers at twice the load, compared with those at full load. For a quiet machine.
    overload) make bench-overload ;;
    # Processes that die, a full disk and Redis away, under load.
    chaos) make test-chaos ;;
    # Real clients and agents. CI does the same, and skips Vercel's AI SDK where npm is missing.
    clients) make test-clients ;;
    # What CI checks where helm, kubectl, promtool and a cgroup can be had, and here always.
    mesh) make test-mesh test-monitoring ;;
    # The console in a real Chromium.
    console) make test-console ;;
    # Hostile and benign files of models, and signatures of models with OpenSSF's own package.
    artifacts) make test-artifacts ;;
    # The native module in the newest Envoy, in which other runs have WebAssembly.
    native) make filters build components && TENSORGATE_TEST_DRIVER=module tools/stage.sh native tools/suite.py --locked -p tensorgate-tests --test it && make demo DRIVER=module ;;
    # The native module: a million mutated requests under Valgrind, the instructions of one, arm64.
    module) tools/stage.sh module tools/module.sh memory && tools/stage.sh instructions tools/module.sh instructions && tools/stage.sh arm64 tools/module.sh arm64 ;;
    # Clippy of tests, bench and fuzz targets, and the documentation of every crate.
    lint) make lint-all ;;
    *)
        echo "ci-long: PART is vectors, servers, dist, envoys, fuzz, soak, overload, chaos, clients, mesh, console, artifacts, native, module or lint" >&2
        exit 2
        ;;
esac
