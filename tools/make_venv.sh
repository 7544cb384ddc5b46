#!/usr/bin/env bash
# make_venv.sh FOLDER [EXTRA]: a virtual environment in FOLDER on Python 3.10-3.12, with torch and torchaudio as a pair, and voxkit with an
# extra of setup.py. What is there and fits is kept; a broken environment, or one for another Python or pair, is made anew.
#
#   PYTHON        the interpreter (default: the first of python3, python3.12, python3.11, python3.10 that fits)
#   TORCH, TORCHAUDIO, TORCH_INDEX   the pair, and the package index to take it from (default: pip's own)
set -euo pipefail

folder=$1
extra=${2:-}
python=${PYTHON:-}
torch=${TORCH:-2.11.0}
torchaudio=${TORCHAUDIO:-$torch}
index=${TORCH_INDEX:-}
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
version='import sys; print("%d.%d" % sys.version_info[:2])'

if [ -n "$python" ]; then
  if ! "$python" -c "$fits" 2>/dev/null; then
    found=$("$python" --version 2>&1 || true)
    echo "voxkit runs on Python 3.10, 3.11 and 3.12; PYTHON=$python is ${found:-not there}. Choose another: make PYTHON=python3.11 ..." >&2
    exit 1
  fi
  wanted=$("$python" -c "$version")
else
  wanted=
  for candidate in python3 python3.12 python3.11 python3.10 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$fits" 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi

works() {  # an interpreter that runs, fits and has pip, and was made for the same
  [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "$fits" 2>/dev/null && "$folder/bin/python" -m pip --version >/dev/null 2>&1 || return 1
  [ -z "$wanted" ] || [ "$wanted" = "$("$folder/bin/python" -c "$version")" ]
}
install() {
  "$folder/bin/python" -m pip --disable-pip-version-check install --no-input "$@"
}

if ! works; then
  if [ -z "$python" ]; then
    echo "voxkit runs on Python 3.10, 3.11 and 3.12; none was found ($(python3 --version 2>&1 || true)). Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
  if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    echo "$folder is there and is no virtual environment; remove it, or choose another: make VENV=..." >&2
    exit 1
  fi
  echo "Making $folder with $("$python" --version 2>&1)"
  rm -rf "$folder"
  "$python" -m venv "$folder"
fi
[ -n "$extra" ] || exit 0

if [ "$(cat "$folder/.made" 2>/dev/null)" != "$torch $torchaudio $index" ]; then
  rm -f "$folder"/.made "$folder"/.extra-*
  install -q --upgrade pip
  if [ -n "$index" ]; then
    install "torch==$torch" "torchaudio==$torchaudio" --index-url "$index"
  else
    install "torch==$torch" "torchaudio==$torchaudio"
  fi
  echo "$torch $torchaudio $index" > "$folder/.made"
fi

if [ ! -e "$folder/.extra-$extra" ] || [ setup.py -nt "$folder/.extra-$extra" ]; then
  echo "Installing voxkit with its extra '$extra'"
  # Quietly: setuptools warns at length about every editable installation.
  install -e ".[$extra]" > "$folder/install.log" 2>&1 || { tail -n 40 "$folder/install.log" >&2; exit 1; }
  if [ "$extra" = test ]; then
    # What some tests compare with. kenlm needs a compiler; pyctcdecode asks for NumPy 1 and works with 2, so its needs are named here.
    { install -q -e '.[lm]' && install -q --no-deps pyctcdecode && install -q pygtrie hypothesis; } > "$folder/peers.log" 2>&1 ||
      echo "kenlm or pyctcdecode could not be installed (no C++ compiler? see $folder/peers.log): tests that compare with them are skipped"
  fi
  touch "$folder/.extra-$extra"
fi
