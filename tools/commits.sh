#!/usr/bin/env bash
# Checks the subjects of new commits: `area: what changed`, at most 72 characters, no full stop.
# commits.sh [RANGE] checks the commits of a range, or all commits since the rule was introduced.
set -euo pipefail
cd "$(dirname "$0")/.."
# The last commit before the rule.
began=d89413d0ba42fc0777c50bfb7fae6c697d455624
if ! git rev-parse --quiet --verify HEAD >/dev/null; then
    echo "commits: not a git checkout: nothing to check"
    exit 0
fi
range=${1:-$began..HEAD}
# A shallow clone has only the newest commits.
git rev-parse --quiet --verify "$began^{commit}" >/dev/null || range=${1:--1}
wrong=0
while IFS= read -r commit; do
    subject=${commit#* }
    if [ ${#subject} -gt 72 ] || [[ ! $subject =~ ^[a-z0-9][a-z0-9\ ,/_.-]*:\ .*[^.\ ]$ ]]; then
        echo "commits: $commit" >&2
        wrong=1
    fi
done < <(git log --no-merges --format='%h %s' "$range")
if [ $wrong = 1 ]; then
    echo "commits: a subject reads 'area: what changed' and has at most 72 characters" >&2
    exit 1
fi
