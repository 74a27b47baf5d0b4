# Every target sets up what it needs in .venv first, and bench in .venv-bench. PYTHON is any interpreter from 3.11 on:
# make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
INSTALL := -m pip install --disable-pip-version-check --quiet --constraint

.DEFAULT_GOAL := help
.PHONY: help demo test stress fuzz check lint types wheel bench docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.examples  ## train OptNet's mini-Sudoku layer; a progress bar, then a picture
	$(BIN)/python examples/sudoku.py

test: $(VENV)/.test  ## run every test
	$(BIN)/python -m pytest

stress: $(VENV)/.test  ## the long robustness tests, and their worst figures
	$(BIN)/python -m pytest -m stress tests

fuzz: $(VENV)/.test  ## 2,000 random models against cvxpy and Clarabel, and their worst figures
	$(BIN)/python -m pytest -m fuzz tests

check: lint types test wheel docs  ## everything that CI runs

lint: $(VENV)/.test  ## ruff: format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test  ## mypy, strict
	$(BIN)/mypy

# Built from a copy, because an old build folder would slip deleted modules into the wheel. Installed beside the dependencies, not
# over the editable install, and it must win from a folder outside the tree.
# tests/house and the documents' tests speak of the repository, so they stay here.
wheel: $(VENV)/.test  ## build the wheel and run the tests against it, outside the tree
	@set -eu; away=$$(mktemp -d); trap 'rm -rf "$$away"' EXIT; \
	export KARUSH_DATA="$${KARUSH_DATA:-$(CURDIR)/../shared/data}"; \
	python="$(CURDIR)/$(BIN)/python"; \
	mkdir "$$away/source"; cp -RP pyproject.toml README.md LICENSE src dsl canon backends "$$away/source"; \
	"$$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$$away" "$$away/source"; \
	"$$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$$away/site" "$$away"/*.whl; \
	cp -r pyproject.toml tests examples docs "$$away"; \
	cd "$$away"; \
	export PYTHONPATH="$$away/site"; \
	"$$python" -P -c 'import karush, os, sys; print(karush.__file__); sys.exit(not karush.__file__.startswith(os.environ["PYTHONPATH"]))'; \
	"$$python" -m pytest --ignore tests/house --ignore tests/test_documents.py --ignore tests/language/test_messages.py

bench: $(PEERS)/.bench  ## time the language and the engines beside their peers
	PYTHONPATH=tests $(PEERS)/bin/python -m benchmarks

docs: $(VENV)/.docs  ## build docs/_build/html; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(PEERS) build dist docs/_build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python $(PEERS)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("karush needs Python 3.11 or newer: make PYTHON=python3.13 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(@:/bin/python=)

$(VENV)/.examples $(VENV)/.test $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) constraints.txt --editable ".[$*]"
	@touch $@

# The peers need another cvxpy, so they live apart; and qpth pins a numpy that has no wheels for today's Python, but runs with ours.
$(PEERS)/.bench: pyproject.toml benchmarks/constraints.txt | $(PEERS)/bin/python
	$(PEERS)/bin/python $(INSTALL) benchmarks/constraints.txt --editable ".[bench]" setuptools wheel
	$(PEERS)/bin/python $(INSTALL) benchmarks/constraints.txt --no-deps --no-build-isolation qpth
	@touch $@
