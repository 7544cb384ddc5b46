#!/usr/bin/env bash
# install_kaldifeat.sh [--dry-run | --from-source]: the official kaldifeat wheel that fits the torch, CUDA and Python of `python`
# (PYTHON names another). Where none is published it is built from its source package: 7 CPU-minutes, a C++ compiler, no CUDA toolkit.
exec "$(dirname "$0")/install_wheel.sh" kaldifeat "$@"
