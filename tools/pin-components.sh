#!/usr/bin/env bash
# Writes the digests of target/components/*.wasm into the examples' policies, below the component's
# name. `--check` changes nothing, and fails for each handler with another digest. Run it after a
# change to a handler.
set -euo pipefail
cd "$(dirname "$0")/.."
components=${CARGO_TARGET_DIR:-target}/components
policies=(examples/policies/digits/gate.yaml examples/policies/handlers/gate.yaml)
pinned=$(mktemp)
trap 'rm -f "$pinned"' EXIT
status=0

for policy in "${policies[@]}"; do
    cp "$policy" "$pinned"
    for name in $(sed -n 's#^ *component: components/\(.*\)\.wasm$#\1#p' "$policy"); do
        digest=$(sha256sum "$components/$name.wasm" | cut -d ' ' -f 1)
        sed -i "\\#component: components/$name\\.wasm\$#{n;s/sha256: .*/sha256: $digest/}" "$pinned"
        grep -q "sha256: $digest\$" "$pinned" || { echo "pin-components: $policy has no sha256 below $name.wasm" >&2; exit 2; }
    done
    if cmp -s "$pinned" "$policy"; then
        echo "pin-components: all digests of $policy are correct"
    elif [ "${1:-}" = --check ]; then
        diff -u "$policy" "$pinned" >&2 || true
        echo "pin-components: digests differ; run tools/pin-components.sh if the change is intended" >&2
        status=1
    else
        cat "$pinned" >"$policy"
        echo "pin-components: $policy written"
    fi
done
exit $status
