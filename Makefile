# Every target sets up .venv by itself when it is missing or older than the lock file.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs the locked set in seconds; pip takes a minute and is the way where uv cannot reach the index.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: $(PYTHON) is not on the PATH. Set PYTHON=/path/to/python3.11."; exit 1; }
	@echo "Setting up .venv (about a minute the first time)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock --no-deps \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable . \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.PHONY: help run run-postgres dev style test tests test-long lint bench bench-page clean reset-demo lock

run: $(STAMP) ## the whole scrub on demo data with simulated vendors, offline
	@$(BIN)/leadscrub demo

run-postgres: $(STAMP) ## the UI and the demo on a PostgreSQL of its own: Dagster's storage and the ledger
	@$(BIN)/leadscrub dev --postgres

dev: $(STAMP) ## the Dagster UI; with no vendor configured it serves the demo
	@$(BIN)/leadscrub dev

lint: style ## ruff, mypy strict and dg check defs
	@VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dg check defs

style: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: $(STAMP) ## ruff, mypy strict and all tests but the long ones, in parallel
	@$(MAKE) --no-print-directory -j2 --output-sync=target style tests

# One worker more than there are cores: some tests wait for a daemon or a vendor.
tests: $(STAMP)
	@$(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal -m "not long and not live" -q

test-long: $(STAMP) ## the tests that take longer than make test allows
	@$(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal -m long -q --timeout 3600

bench: $(STAMP) ## measure speed and memory, figures in bench-results/; CASES="overhead start_up" REPEAT=1 for less
	@$(BIN)/python -m leadscrub_pipeline_tests.bench $(CASES) $(if $(REPEAT),--repeat $(REPEAT))

bench-page: $(STAMP) ## BENCHMARKS.md from the newest figures in bench-results/
	@$(BIN)/python -m leadscrub_pipeline_tests.bench --page > BENCHMARKS.md.new && mv BENCHMARKS.md.new BENCHMARKS.md

lock: $(STAMP) ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --extra test --upgrade \
	  --no-header --no-annotate --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches; never touches .leadscrub, which holds paid answers
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -not -path './.leadscrub/*' -prune -exec rm -rf {} +

reset-demo: ## forget the demo: its tables, ledger, runs and bill
	@rm -rf .leadscrub/demo .leadscrub/postgres
