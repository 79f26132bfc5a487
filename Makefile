# `make` alone lists what there is. Every target sets up what it needs, once.

# The newest Python that is supported and here; PYTHON=… chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$python && exit; done; echo python3)

VENV := .venv
BIN := $(VENV)/bin
# Arguments for the tests: make test ARGS="tests/http -x". What needs Node.js, or Chromium, has
# lanes in .ci/run.
TESTS := -n 2 --dist loadfile -m "not node and not anvil and not browser"
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo serve seed test lint docs reference contracts bench chaos clean

help: ## show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# --- Set-up: a stamp per group of requirements, renewed when pyproject.toml changes ------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is not. Choose one: make PYTHON=python3.12"; \
		exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments (on Debian: apt install python3-venv)."; \
		exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.stamp-%: pyproject.toml | $(BIN)/python
	@echo "Installing what \`$*\` needs into $(VENV); the first time this takes about a minute."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--editable '.[devchain,postgres]' $(GROUPS_OF_$*)
	@touch $@

GROUPS_OF_demo := --group demo
GROUPS_OF_test := --group demo --group test
GROUPS_OF_lint := --group demo --group test --group lint
GROUPS_OF_docs := --group docs
GROUPS_OF_bench := --group demo --group bench

install: $(VENV)/.stamp-demo ## make .venv and install what the demo needs

# --- The demo -----------------------------------------------------------------------------------

demo: $(VENV)/.stamp-demo ## chain, shop, worker and an agent that buys (ONCE=1: stop after that)
	@exec $(BIN)/python -m demo_project.run $(if $(filter-out 0,$(ONCE)),--once)

serve: $(VENV)/.stamp-demo ## shop and worker alone; chain and rest from the environment
	@exec $(BIN)/python -m demo_project.run --serve

seed: $(VENV)/.stamp-demo ## made-up payments into DATABASE_URL (ROWS=5000000; ADD=1: beside others)
	@exec $(BIN)/python -m demo_project.seed $(if $(ROWS),--rows $(ROWS)) \
		$(if $(filter-out 0,$(ADD)),--add)

# --- Development --------------------------------------------------------------------------------

test: $(VENV)/.stamp-test ## the tests, on SQLite (ARGS="tests/http -x" chooses)
	@exec $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(TESTS))

lint: $(VENV)/.stamp-lint ## ruff, mypy strict, direction of imports, migrations in step
	$(BIN)/ruff check .
	$(BIN)/mypy --package x402_django --package demo_project
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/django-admin makemigrations --check --dry-run \
		--pythonpath .

docs: $(VENV)/.stamp-docs ## the documentation as a site, in build/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

reference: $(VENV)/.stamp-test ## write the reference pages that are made from the code anew
	@$(BIN)/python docs/generate.py

contracts: ## compile contracts/src anew (needs Node.js)
	cd contracts && npm ci && npm run build

bench: $(VENV)/.stamp-bench ## measure, beside the official middleware
	@exec $(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.stamp-demo ## kill, cut, reorganise, then count every unit (needs PostgreSQL, Redis, Anvil)
	@exec $(BIN)/python -m chaos $(ARGS)

clean: ## remove everything that was made, .venv included
	rm -rf $(VENV) var build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis contracts/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- CI lanes -----------------------------------------------------------------------------------

.PHONY: ci

ci: ## what CI runs, or some of it: make ci LANES="types postgres"
	@exec bash .ci/run $(LANES)
