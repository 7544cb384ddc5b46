#!/usr/bin/env bash
# install_k2.sh [--dry-run]: the official k2 wheel that fits the torch, CUDA and Python of `python` (PYTHON names another).
exec "$(dirname "$0")/install_wheel.sh" k2 "$@"
