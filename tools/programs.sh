#!/usr/bin/env bash
# Builds the programs that the demo runs, and the one that makes components: programs.sh [--names].
#
# One call builds them all, so that the crates beneath them are compiled once. `png-digits` is a
# handler of the demo. Its crates have the features here that they have in `make build`, which then
# compiles nothing of these again. A test compares the features.
set -euo pipefail
cd -P "$(dirname "$0")/.."
packages=(tensorgate tensorgate-model tensorgate-host tensorgate-embedded tensorgate-demo tensorgate-componentize png-digits)
if [ "${1:-}" = --names ]; then
    printf '%s\n' "${packages[@]}"
    exit
fi
cargo build --quiet --locked "${packages[@]/#/--package=}"
