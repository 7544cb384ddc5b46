#!/usr/bin/env bash
# make_venv.sh FOLDER [PYTHON]: a virtual environment on Python 3.10-3.12 in FOLDER; one that works and fits is kept, a broken one is made anew.
set -euo pipefail

folder=$1
python=${2:-}
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

if [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "$fits" 2>/dev/null && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
  wanted=${python:+$("$python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true)}
  if [ -z "$wanted" ] || [ "$wanted" = "$("$folder/bin/python" -c 'import sys; print(sys.version_info[:2])')" ]; then
    exit 0
  fi
fi

if [ -n "$python" ]; then
  if ! "$python" -c "$fits" 2>/dev/null; then
    found=$("$python" --version 2>&1 || true)
    echo "voxkit runs on Python 3.10, 3.11 and 3.12; PYTHON=$python is ${found:-not there}. Choose another: make PYTHON=python3.11 ..." >&2
    exit 1
  fi
else
  for candidate in python3 python3.12 python3.11 python3.10 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$fits" 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "voxkit runs on Python 3.10, 3.11 and 3.12; none was found ($(python3 --version 2>&1 || true)). Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
  fi
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
fi
echo "Making $folder with $("$python" --version 2>&1)"
rm -rf "$folder"
"$python" -m venv "$folder"
