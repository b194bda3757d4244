#!/usr/bin/env bash
# Installs the clients of `make test-clients` and the collector of `make test-monitoring`, as their
# authors publish them: wheels with hashes in a virtual environment in the user's cache folder
# (100 MB of downloads, 550 MB on disk). Idempotent.
# The last line on standard output is the folder. Everything else goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

name=clients
. tools/python.sh
protos=tests/clients/protos
moved=(tensorflow/core/protobuf/error_codes.proto xla/tsl/protobuf/error_codes.proto)

machine 2.34 "Debian 12, Ubuntu 22.04"
find_python "the clients"
place tools/requirements-clients.txt tools/requirements-clients-protos.txt tools/python.sh tools/clients.sh "${moved[@]/#/$protos/}"
if [ ! -e "$made/.complete" ]; then
    say "installing clients for Python $version into $made"
    environment
    wheels tools/requirements-clients.txt
    # Only TensorFlow's messages: their package also contains an old version of TF Serving's, which
    # would replace the tested one.
    site=$("$made/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    wheels tools/requirements-clients-protos.txt --target "$made/protos"
    mv "$made/protos/tensorflow" "$site/"
    rm -rf "$made/protos"
    "$made/bin/python" -m grpc_tools.protoc --proto_path="$protos" --python_out="$site" "${moved[@]}" \
        || fail "protoc could not compile what is in $protos"
    # The collector is linked to Python's shared library. In Debian, that is a package of its own,
    # which the clients do not need.
    libraries=$("$made/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
    LD_LIBRARY_PATH=$libraries "$site/rotel/rotel-agent" --version >/dev/null 2>&1 || (debian "libpython$version") || true
    : > "$made/.complete"
fi
flock -u 9
printf '%s\n' "$made"
