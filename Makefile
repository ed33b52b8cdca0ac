PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-all check compare

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

run: $(VENV)/.ready  ## set up, then the main job: python run.py $(ARGS)
	$(BIN)/python run.py $(ARGS)

test: $(VENV)/.ready  ## set up, then the tests that take minutes
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

test-all: $(VENV)/.ready  ## set up, then every test at its full counts
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

check: $(VENV)/.ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

compare: $(VENV)/.ready  ## what pretraining is worth: at most 40 minutes, continues when typed again
	$(BIN)/python -m smalldata_vit.reports.compare $(ARGS)

$(VENV)/.ready: pyproject.toml $(wildcard constraints/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@version=$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])'); file=constraints/$$version.txt; \
	install="$(BIN)/python -m pip install --disable-pip-version-check --quiet -e .[reports,tensorboard,dev]"; \
	if [ ! -f $$file ]; then \
		echo "make: no tested versions for $$version; installing from the ranges in pyproject.toml"; $$install; \
	else \
		$$install -c $$file || { echo "make: $$file does not resolve here; using the ranges in pyproject.toml"; $$install; }; \
	fi
	@touch $@
