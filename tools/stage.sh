#!/usr/bin/env bash
# Runs one stage of a build and prints its duration: stage.sh [--about TEXT] NAME COMMAND...
# TEXT is printed first: what the stage builds, and how long that usually takes. The seconds of the
# last successful run stay in target/stages/NAME, where tools/house.sh reads them. If $STAGES_LOG
# names a file, a line is added to it: the name, the seconds, and the seconds of CPU.
set -uo pipefail
# Cargo would take the jobs of make for its own number of jobs.
unset MAKEFLAGS MFLAGS
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
# User and system time of the processes that the command started and waited for.
cpu=$(awk -v ticks="$(getconf CLK_TCK)" '{printf "%.1f", ($16 + $17) / ticks}' "/proc/$$/stat")
printf 'stage %-12s %7.1f s%s\n' "$name" "$seconds" "$([ $status = 0 ] || echo '  FAILED')"
stages=${CARGO_TARGET_DIR:-target}/stages
if [ $status = 0 ]; then
    mkdir -p "$stages" && echo "$seconds" >"$stages/$name"
fi
if [ -n "${STAGES_LOG:-}" ]; then echo "$name $seconds $cpu" >>"$STAGES_LOG"; fi
exit $status
