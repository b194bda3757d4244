#!/usr/bin/env bash
# Tests the images of a release: images.sh FOLDER, where FOLDER has one unpacked release. The
# registry and skopeo are those that tools/registry.sh finds.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/registry.sh
exec tests/images/run.py "$1"
