#!/usr/bin/env bash
# Copies the handlers that a policy names as `builtin:NAME` from target/components to the folder
# `builtins` beside the host. With a key (`tools/builtins.sh release.pem`), each is signed as
# NAME@VERSION with this repository's version. Releases do that.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}
key=${1:-}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
mkdir -p "$out/debug/builtins"
for name in passthrough image-classifier class-labels tabular text-classifier; do
    component=$out/debug/builtins/$name.wasm
    install -m 0644 "$out/components/${name//-/_}.wasm" "$component"
    rm -f "$component.sigstore.json"
    [ -z "$key" ] || "$out/debug/tensorgate" handler sign --key "$key" --as "$name@$version" "$component" 2>/dev/null
    printf 'builtins: %s  %s\n' "builtin:$name" "$(sha256sum "$component" | cut -d ' ' -f 1)"
done
