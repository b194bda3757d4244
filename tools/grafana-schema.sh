#!/usr/bin/env bash
# Makes a JSON schema of Grafana's published types of dashboards (npm's @grafana/schema) in the user's
# cache folder (40 MB of packages, of which only the schema is kept). Idempotent. The last line on
# standard output is the path of the schema. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=tests/monitoring/grafana_schema
types=node_modules/@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen.d.ts
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tensorgate
made=$cache/grafana-schema-$(cat "$packages"/*.json tools/grafana-schema.sh | sha256sum | cut -c1-16).json
say() { printf 'grafana-schema: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/.grafana-schema.lock"
flock 9
if [ ! -e "$made" ]; then
    command -v npm >/dev/null || fail "npm is missing; install it (Debian's package is npm) and run this again"
    say "making $made"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cp "$packages"/*.json "$folder"
    (cd "$folder" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) \
        || fail "npm could not install what $packages names; check the network and run this again"
    (cd "$folder" && node_modules/.bin/ts-json-schema-generator --path "$types" --type Dashboard --no-type-check -o made.json >&2)
    mv "$folder/made.json" "$made"
fi
flock -u 9
printf '%s\n' "$made"
