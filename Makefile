# Each target does its own set-up: a virtual environment in .venv with Jichu in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench bench-labels lint clean

demo: $(VENV)/.installed
	$(BIN)/jichu run quickstart
	@echo "made in $(CURDIR)/runs; the command is $(CURDIR)/$(BIN)/jichu (source $(BIN)/activate to type jichu)"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal
	@echo "tested with $(CURDIR)/$(BIN)/python"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py

bench-labels: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/labels.py

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Jichu needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "installing into $(CURDIR)/$(VENV); PyTorch makes this take some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
