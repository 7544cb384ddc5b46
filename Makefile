# make demo   from an empty clone to a word error rate and a transcript, on a CPU, about ten minutes
# make test   the whole suite           make test-fast   without the slow and real-data tests
# make lint   ruff, import arrows, types
# make clean  removes .venv
#
#   PYTHON=python3.11   the interpreter (3.10, 3.11 or 3.12; by default the first of them that is found)
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu   PyTorch's CPU-only wheels (0.2 GB) instead of the CUDA ones (4.6 GB)
#   TORCH=2.8.0 TORCHAUDIO=2.8.0   another pair
#   PYTEST_ARGS="-k zipformer"     handed to pytest       JOBS=4   test processes (0: none beside pytest itself)

VENV ?= .venv
TORCH ?= 2.11.0
TORCHAUDIO ?= $(TORCH)
TORCH_INDEX ?=
JOBS ?= 2
PYTEST_ARGS ?=
DEMO ?= egs/toy/voxformer

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --no-input
# What an installed environment was made from: another pair, index or setup.py installs again.
PAIR := $(subst /,_,$(subst :,_,torch-$(TORCH)-$(TORCHAUDIO)-$(TORCH_INDEX)))
BASE := $(VENV)/.made-$(PAIR)
# One thread per process: two processes with two threads each on two cores are far slower than one.
THREADS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false

.PHONY: demo test test-fast lint venv clean
.DELETE_ON_ERROR:

demo: $(VENV)/.extra-demo
	@tools/demo.sh "$(VENV)" "$(DEMO)"

test: $(VENV)/.extra-test
	$(THREADS) $(PY) -m pytest $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist loadfile) $(PYTEST_ARGS)

test-fast: $(VENV)/.extra-test
	$(THREADS) $(PY) -m pytest $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist loadfile) -m "not slow and not real" $(PYTEST_ARGS)

lint: $(VENV)/.extra-lint
	$(VENV)/bin/ruff check .
	$(PY) tools/check_tree.py
	$(VENV)/bin/mypy

venv: $(BASE)

# --system-site-packages and a venv whose interpreter went away both end in errors that name something else: test, then make anew.
$(BASE): tools/make_venv.sh
	@tools/make_venv.sh "$(VENV)" "$(PYTHON)"
	@rm -f $(VENV)/.made-* $(VENV)/.extra-*
	$(PIP) -q --upgrade pip
	$(PIP) "torch==$(TORCH)" "torchaudio==$(TORCHAUDIO)" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/.extra-test: $(BASE) setup.py
	$(PIP) -q -e '.[test]'
	@$(PIP) -q '.[peers]' >$(VENV)/peers.log 2>&1 || echo "kenlm and pyctcdecode could not be installed (no C++ compiler? see $(VENV)/peers.log): tests that compare with them are skipped"
	@touch $@

$(VENV)/.extra-%: $(BASE) setup.py
	$(PIP) -q -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV)
