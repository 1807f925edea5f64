# make quick   install, then a first study in minutes
# make test    install with the development tools, then lint, types and tests
# make docs    the documentation as HTML in docs/_build/html
# make bench   the benchmarks, one after another
# make gpu     what has to be tried on a CUDA device, in six minutes; figures in results/gpu
# make clean   remove the virtual environment and everything that was built
#
# Settings: make test PYTHON=python3.12 VENV=/tmp/venv PYTEST_ARGS=-x

# The first interpreter on the PATH that runs and is at least 3.11.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
PYTEST_ARGS ?= -n auto --dist loadfile
SPHINX_ARGS ?=

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
INPUTS = pyproject.toml constraints.txt hatch_build.py

.PHONY: quick test docs bench gpu clean

quick: $(VENV)/.installed
	$(BIN)/gradnoise run deep-mlp --scale quick

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest $(PYTEST_ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -b html $(SPHINX_ARGS) docs docs/_build/html

bench: $(VENV)/.installed
	set -e; for b in noise populations compare; do echo "== $$b"; $(BIN)/python benchmarks/$$b.py; done

# Needs no installation: any Python with torch, numba and triton, such as make gpu GPU_PYTHON=python3
GPU_PYTHON ?= $(PYTHON)
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py

clean:
	rm -rf $(VENV) docs/_build build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than what they depend on exactly when the environment is up to date.
$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-dev $(VENV)/.installed-docs: $(VENV)/.installed-%: $(INPUTS) | $(BIN)/python
	$(INSTALL) '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "gradnoise needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
