# Two commands do everything on a machine that has Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: demo test bench lint format types install help

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(STAMP) ## Generate videos of a phantom cohort, plant copies, audit all of it, and report what was found (OUT=runs/demo)
	$(BIN)/mnemoscope demo --out $(OUT)

test: $(STAMP) ## Run every test, on all cores
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

bench: $(STAMP) ## Measure speed against the neighbours, on this machine
	$(BIN)/mnemoscope bench --write

lint: $(STAMP) ## Check layout and habits of the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP) ## Lay the code out and mend what can be mended without asking
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP) ## Check the types
	$(BIN)/mypy

install: $(STAMP) ## Only create .venv and install

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mnemoscope needs Python 3.11 or newer, found: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Build backends are pinned as well, ours and that of what comes as source, so they come first and no build fetches another.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
