#!/usr/bin/env bash
# Runs one stage of a build and prints its duration: stage.sh [--about TEXT] NAME COMMAND...
# TEXT is printed first: what the stage builds, and how long that usually takes. The seconds of the
# last successful run stay in target/stages/NAME, where tools/house.sh reads them.
set -uo pipefail
if [ "$1" = --about ]; then
    printf 'stage %-12s %s\n' "$3" "$2"
    shift 2
fi
name=$1
shift
started=$(date +%s.%N)
"$@"
status=$?
seconds=$(echo "$(date +%s.%N) $started" | awk '{printf "%.1f", $1 - $2}')
printf 'stage %-12s %7.1f s%s\n' "$name" "$seconds" "$([ $status = 0 ] || echo '  FAILED')"
if [ $status = 0 ]; then
    stages=${CARGO_TARGET_DIR:-target}/stages
    mkdir -p "$stages" && echo "$seconds" >"$stages/$name"
fi
exit $status
