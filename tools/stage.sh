#!/usr/bin/env bash
# Runs one stage of a build and prints how long it took: stage.sh [--about TEXT] NAME COMMAND...
# TEXT is printed first: what the stage builds, and how long that usually takes.
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
printf 'stage %-12s %7.1f s%s\n' "$name" "$(echo "$(date +%s.%N) $started" | awk '{print $1 - $2}')" "$([ $status = 0 ] || echo '  FAILED')"
exit $status
