#!/usr/bin/env bash
# Builds a release into target/dist: dist.sh [KEY]. With a key the bundled handlers are signed.
#
# The archive tensorgate-VERSION-ARCH-linux.tar.gz holds the programs, the filters, the bundled
# handlers, rules for Prometheus, dashboards for Grafana, the licences, an SBOM and checksums.
# Programs are stripped, and linked statically: they need no library of the system. The same sources
# and toolchain give the same bytes in any folder. tensorgate-runtime-python-VERSION.tar.gz is for any
# processor: the runtime for handlers in Python, which is unpacked over the other one.
set -euo pipefail
cd -P "$(dirname "$0")/.."
out=$(realpath -m "${CARGO_TARGET_DIR:-target}")
signing_key=${1:-}
programs=(tensorgate tensorgate-handler tensorgate-model tensorgate-host tensorgate-embedded)
# The packages that hold them.
packages=(tensorgate tensorgate-workbench tensorgate-model tensorgate-host tensorgate-embedded)
filters=(gate)

. tools/remap.sh
clear_build_settings
export CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_STRIP=symbols
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
name=tensorgate-$version-${target%%-*}-linux
# The time of all that has one in the archive, as reproducible-builds.org has it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# `--target` keeps these flags from build scripts and procedural macros.
flags=(-Ctarget-feature=+crt-static "${remap[@]}")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --release --target "$target" "${packages[@]/#/--package=}" --package=tensorgate-componentize
built=$out/$target/release
# The native module is loaded by Envoy, so it uses Envoy's C library.
flags=("${remap[@]}")
CARGO_TARGET_DIR=$out/native CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
    cargo build --quiet --locked --release --target "$target" --package=tensorgate-envoy-module
native=$out/native/$target/release/libtensorgate_gate.so
# Envoys on arm64 may get their configuration from a release for x86-64.
if [ "$target" = x86_64-unknown-linux-gnu ]; then
    . tools/arm64.sh
    prepare_arm64
    CARGO_TARGET_DIR=$out/native CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}") \
        cargo build --quiet --locked --release --target "$arm64" --package=tensorgate-envoy-module
    native_arm64=$out/native/$arm64/release/libtensorgate_gate.so
fi
tools/filters.sh "${filters[@]}"
mapfile -t handlers < <(tools/builtins.sh --names)
COMPONENTIZE=$built/tensorgate-componentize tools/components.sh --release --into "$out/dist/components" "${handlers[@]}"

made=$out/dist/$name
rm -rf "$made" "$made.tar.gz" "$made.tar.gz.sha256"
mkdir -p "$made"
install -m 0755 -t "$made" "${programs[@]/#/$built/}"
modules=("${filters[@]/#/$out/filters/}")
install -D -m 0644 -t "$made/filters" "${modules[@]/%/.wasm}" "$native"
[ -z "${native_arm64:-}" ] || install -D -m 0644 -t "$made/filters/aarch64" "$native_arm64"
FROM=$out/dist/components INTO=$made TENSORGATE=$made/tensorgate tools/builtins.sh "$signing_key"
install -D -m 0644 -t "$made/prometheus" monitoring/prometheus/*.yaml
install -D -m 0644 -t "$made/grafana" monitoring/grafana/*.json
install -m 0644 LICENSE "$made/LICENSE"
sed "s/VERSION/$version/g" tools/dist-readme.md >"$made/README.md"
# `tensorgate-handler` carries the tensor kit.
tools/sbom.py --target "$target" --sbom "$made/sbom.cdx.json" --licences "$made/THIRD-PARTY-LICENCES.txt" \
    --programs "${packages[@]}" tensorgate-envoy-module --filters "${filters[@]/#/tensorgate-}" --handlers "${handlers[@]}" tensorgate-kit
(cd "$made" && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum -- >"$out/dist/sums")
mv "$out/dist/sums" "$made/SHA256SUMS"
chmod -R u=rwX,go=rX "$made"

tar --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -C "$out/dist" "$name" | gzip -9n >"$made.tar.gz"
(cd "$out/dist" && sha256sum -- "$name.tar.gz" >"$name.tar.gz.sha256")
printf 'dist: %s, %s bytes\n' "$made.tar.gz" "$(stat -c %s "$made.tar.gz")"
tools/runtime.sh "$made" "$out/dist/tensorgate-runtime-python-$version.tar.gz"
