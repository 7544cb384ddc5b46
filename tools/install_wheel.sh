#!/usr/bin/env bash
# install_wheel.sh k2|kaldifeat [--dry-run | --from-source]: what install_k2.sh and install_kaldifeat.sh share.
set -euo pipefail

package=$1
how=${2:-wheel}
case $package$how in
  *wheel | *--dry-run | kaldifeat--from-source) ;;
  k2--from-source) echo "k2 from source: https://k2-fsa.github.io/k2/installation/from_source.html" >&2; exit 2 ;;
  *) echo "install_$package.sh: what is '$how'? [--dry-run | --from-source]" >&2; exit 2 ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${PYTHON:-}" ] && [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$root/.venv/bin/python" ]; then
  PYTHON=$root/.venv/bin/python
fi
python=${PYTHON:-python}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "$python cannot import torch; install it first (pip install torch==2.11.0 torchaudio==2.11.0), or name another: PYTHON=... $0" >&2
  exit 2
fi

verify() {  # a wheel that installs may still not load: import it beside torch
  if ! "$python" -c "import torch, $package; print('$package', getattr($package, '__version__', ''), 'works with torch', torch.__version__)"; then
    echo "$package was installed and does not load; the line above says why. Remove it: $python -m pip uninstall -y $package" >&2
    exit 1
  fi
}

build_kaldifeat() {  # the source package asks cmake for torch's own configuration, which wants a CUDA toolkit: give it one that does not
  work=$(mktemp -d)  # not local: the trap runs after the function
  trap 'rm -rf "$work"' EXIT
  "$python" -m pip install -q wheel setuptools numpy cmake
  "$python" -m pip download -q --no-deps --no-binary pybind11 -d "$work" pybind11==3.0.1
  tar -xzf "$work"/pybind11-3.0.1.tar.gz -C "$work"
  mkdir "$work/stub"
  cat > "$work/stub/TorchConfig.cmake" <<STUB
set(TORCH_LIBRARIES "\${TORCH_DIR}/lib/libtorch.so;\${TORCH_DIR}/lib/libtorch_cpu.so;\${TORCH_DIR}/lib/libc10.so")
include_directories(SYSTEM "\${TORCH_DIR}/include" "\${TORCH_DIR}/include/torch/csrc/api/include")
set(TORCH_CXX_FLAGS "")
set(Torch_FOUND TRUE)
STUB
  if [ "$(uname)" = Darwin ]; then
    sed -i.bak 's/\.so/.dylib/g' "$work/stub/TorchConfig.cmake"
  fi
  PATH="$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH" \
  KALDIFEAT_CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=17 -DFETCHCONTENT_SOURCE_DIR_PYBIND11=$work/pybind11-3.0.1 -DPYBIND11_FINDPYTHON=OFF -DTorch_DIR=$work/stub" \
    "$python" -m pip wheel --no-cache-dir --no-build-isolation --no-deps -w "$work/wheel" kaldifeat==1.24
  "$python" -m pip install --no-deps --force-reinstall "$work"/wheel/kaldifeat-*.whl
}

if [ "$how" = --from-source ]; then
  build_kaldifeat
  verify
  exit 0
fi

status=0
url=$("$python" -m voxkit.doctor.wheels "$package" --url) || status=$?
if [ $status -eq 3 ] && [ "$package" = kaldifeat ] && [ "$how" = wheel ]; then
  echo "Building kaldifeat from source instead."
  build_kaldifeat
elif [ $status -ne 0 ]; then
  exit $status
elif [ "$how" = --dry-run ]; then
  echo "$python -m pip install --no-deps '$url'"
  exit 0
else
  "$python" -m pip install --no-deps --force-reinstall "$url"
fi
verify
