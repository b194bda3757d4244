#!/usr/bin/env bash
# Puts the handlers that a policy names as `builtin:NAME` beside the host, in its folder `builtins`,
# and prints their digests: builtins.sh [--names] [KEY].
#
# With a key (`builtins.sh release.pem`) each is signed as NAME@VERSION of this tree, which is for
# releases. $FROM is the folder of the components, $INTO the host's folder, and $TENSORGATE the
# command that signs.
set -euo pipefail
cd "$(dirname "$0")/.."
names=(passthrough image-classifier class-labels tabular text-classifier)
if [ "${1:-}" = --names ]; then
    printf '%s\n' "${names[@]}"
    exit
fi
out=${CARGO_TARGET_DIR:-target}
key=${1:-}
from=${FROM:-$out/components}
into=${INTO:-$out/debug}/builtins
program=${TENSORGATE:-$out/debug/tensorgate}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
mkdir -p "$into"
for name in "${names[@]}"; do
    component=$into/$name.wasm
    install -m 0644 "$from/${name//-/_}.wasm" "$component"
    rm -f "$component.sigstore.json"
    [ -z "$key" ] || "$program" handler sign --key "$key" --as "$name@$version" "$component" 2>/dev/null
    printf 'builtins: %s  %s\n' "builtin:$name" "$(sha256sum "$component" | cut -d ' ' -f 1)"
done
