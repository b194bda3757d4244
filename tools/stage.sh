#!/usr/bin/env bash
# stage.sh NAME COMMAND...: runs one stage of a build and prints its duration.
set -uo pipefail
name=$1
shift
started=$(date +%s.%N)
"$@"
status=$?
printf 'stage %-12s %7.1f s%s\n' "$name" "$(echo "$(date +%s.%N) $started" | awk '{print $1 - $2}')" "$([ $status = 0 ] || echo '  FAILED')"
exit $status
