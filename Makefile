# The menu. Everything sets itself up in .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FAULT ?= pool
RUNS ?= 1
KEEP ?=
MINUTES ?= 6
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chaos docs clean

help: ## Show this menu
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml examples/shop/requirements.txt
	@echo "Setting up $(VENV) (a minute or two, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable . --group test --requirement examples/shop/requirements.txt
	@touch $@

demo: $(STAMP) ## Break a small real shop: FAULT=pool|slow-query|missing-setting|upstream|crash|none RUNS=1
	@exec $(BIN)/python examples/shop/demo.py --fault $(FAULT) --runs $(RUNS) $(if $(KEEP),--keep)

test: lint ## Types, style, and all tests with branch coverage
	@rm -f .coverage .coverage.*
	@COVERAGE_FILE=$(CURDIR)/.coverage COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml \
		$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --fail-under=90

lint: $(STAMP) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP) ## Print every figure that the README quotes (about half an hour)
	@$(BIN)/python bench/run.py

chaos: $(STAMP) ## Break disk, receiver, clock and process at random, and count: MINUTES=6 SEED=
	@exec $(BIN)/python bench/chaos.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

docs: ## Where to read on
	@ls docs/*.md

clean: ## Remove what the commands above made
	rm -rf $(VENV) .cache .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
