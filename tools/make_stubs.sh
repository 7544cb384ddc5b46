#!/usr/bin/env bash
# voxkit/serve/voxkit.proto → voxkit/serve/voxkit_pb2.py, the messages that gRPC carries. It is committed, so that neither an installation nor
# a checkout needs a compiler; tests/tools/test_make_stubs.py makes it anew and compares.
#
#     tools/make_stubs.sh [FOLDER]        PYTHON=python3 by default; needs grpcio-tools, of the version below
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-voxkit/serve}"
"${PYTHON:-python3}" -m grpc_tools.protoc --proto_path=voxkit/serve --python_out="$out" voxkit/serve/voxkit.proto
