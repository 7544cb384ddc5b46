# make demo   from an empty clone to a word error rate and a transcript, on a CPU, in six to ten minutes
# make test   the whole suite           make test-fast   without the slow and real-data tests
# make lint   ruff, import arrows, types
# make venv   .venv with voxkit and the demo's extras          make clean   removes it
#
#   PYTHON=python3.11   the interpreter (3.10, 3.11 or 3.12; by default the first that is found)
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu   PyTorch's CPU-only wheels (0.2 GB) instead of the CUDA ones (4.6 GB)
#   TORCH=2.8.0 TORCHAUDIO=2.8.0   another pair
#   PYTEST_ARGS="-k zipformer"     handed to pytest       JOBS=4   test processes (0: none beside pytest itself)

VENV ?= .venv
TORCH ?= 2.11.0
TORCHAUDIO ?= $(TORCH)
TORCH_INDEX ?=
PYTHON ?=
JOBS ?= 2
PYTEST_ARGS ?=
DEMO ?= egs/toy/voxformer

ENVIRONMENT = @PYTHON="$(PYTHON)" TORCH="$(TORCH)" TORCHAUDIO="$(TORCHAUDIO)" TORCH_INDEX="$(TORCH_INDEX)" tools/make_venv.sh "$(VENV)"
# One thread per process: two processes with two threads each on two cores are far slower than one.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false \
	$(VENV)/bin/python -m pytest $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist loadfile)

.PHONY: demo test test-fast lint venv clean

demo:
	$(ENVIRONMENT) demo
	@tools/demo.sh "$(VENV)" "$(DEMO)"

test:
	$(ENVIRONMENT) test
	$(PYTEST) $(PYTEST_ARGS)

test-fast:
	$(ENVIRONMENT) test
	$(PYTEST) -m "not slow and not real" $(PYTEST_ARGS)

lint:
	$(ENVIRONMENT) lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python tools/check_tree.py
	$(VENV)/bin/mypy

venv:
	$(ENVIRONMENT) demo

clean:
	rm -rf "$(VENV)"
