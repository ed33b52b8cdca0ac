PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-all check compare stability report dashboards bench bench-budget bench-overhead bench-memory bench-curves bench-gpu \
	bench-compare bench-peers bench-startup

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

compare: $(VENV)/.ready  ## what pretraining is worth: at most 40 minutes, goes on when typed again; shorter: ARGS="--seeds 0,1 --labels 1"
	$(BIN)/python -m smalldata_vit.reports.compare $(ARGS)

dashboards: $(VENV)/.ready  ## views and a report page at W&B: E=entity P=project
	$(BIN)/python -m smalldata_vit.dashboards --entity $(E) --project $(or $(P),smalldata-vit)

report: $(VENV)/.ready  ## ARGS="FOLDER …": one page that compares finished runs
	$(BIN)/python -m smalldata_vit.reports $(ARGS)

stability: $(VENV)/.ready  ## which pretraining is the most stable: seeds and learning rates; continues when typed again
	$(BIN)/python -m smalldata_vit.reports.stability $(ARGS)

bench: $(VENV)/.ready  ## views, step and whole command beside others: about three minutes on two quiet cores
	$(BIN)/python -m smalldata_vit.bench all --write outputs/bench/all.json $(ARGS)

bench-budget: $(VENV)/.ready  ## operations, host reads, graph breaks, FLOP and bytes of a step against their goals
	$(BIN)/python -m smalldata_vit.bench budget $(ARGS)

bench-overhead: $(VENV)/.ready  ## our Trainer loop beside a bare loop and Trainer's defaults
	$(BIN)/python -m smalldata_vit.bench overhead --write outputs/bench/overhead.json $(ARGS)

bench-memory: $(VENV)/.ready  ## what steps add to the resident set
	$(BIN)/python -m smalldata_vit.bench memory --write outputs/bench/memory.json $(ARGS)

bench-curves: $(VENV)/.ready  ## CURVE=batch|crops|width|data|workers|threads
	$(BIN)/python -m smalldata_vit.bench curves $(CURVE) --write outputs/bench/curve_$(CURVE).json $(ARGS)

bench-gpu: $(VENV)/.ready  ## ceilings, views, ladder of steps; ARGS="--part step --rung bf16" or --smoke
	$(BIN)/python -m smalldata_vit.bench gpu --write outputs/bench/gpu.json $(ARGS)

bench-compare: $(VENV)/.ready  ## A=old.json B=new.json: fails if a ratio fell by more than the two spreads
	$(BIN)/python -m smalldata_vit.bench compare $(A) $(B)

bench-peers: $(VENV)/.ready  ## PEERS=folder with a file for each peer; ARGS="--part idmm guided host memory"
	$(BIN)/python -m smalldata_vit.bench peers $(PEERS) --write outputs/bench/peers.json $(ARGS)

bench-startup: $(VENV)/.ready  ## seconds until the command answers, refuses, skips or trains
	$(BIN)/python -m smalldata_vit.bench.startup $(ARGS)

$(VENV)/.ready: pyproject.toml $(wildcard constraints/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@version=$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])'); file=constraints/$$version.txt; \
	install="$(BIN)/python -m pip install --disable-pip-version-check --quiet -e .[reports,tensorboard,search,slurm,dashboards,dev]"; \
	if [ ! -f $$file ]; then \
		echo "make: no tested versions for $$version; installing from the ranges in pyproject.toml"; $$install; \
	else \
		$$install -c $$file || { echo "make: $$file does not resolve here; using the ranges in pyproject.toml"; $$install; }; \
	fi
	@touch $@
